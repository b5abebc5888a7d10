"""The part of MPS behind CLIP: image tokens that look at the words of the prompt which a condition is about.

The modules are named so that the keys of the public checkpoint are theirs: layers.{i}.0.fn.… attends to the text,
layers.{i}.1.fn.… to the image itself (Kwai-Kolors/MPS, trainer/models/cross_modeling.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BiaslessNorm(nn.LayerNorm):
    """A layer norm whose bias is a buffer of zeros, kept in the checkpoint."""

    def __init__(self, width: int) -> None:
        super().__init__(width, bias=False)
        del self.bias
        self.register_buffer("bias", torch.zeros(width))


class GatedLinear(nn.Module):
    """x · silu(gate), of the two halves of the features; the second half is the gate."""

    def forward(self, features: Tensor) -> Tensor:
        values, gate = features.chunk(2, dim=-1)
        return values * F.silu(gate)


class TextAttention(nn.Module):
    """Many query heads from the image, one key and value head from the text, and a feed-forward beside it."""

    def __init__(self, width: int, head: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = BiaslessNorm(width)
        self.to_q = nn.Linear(width, heads * head, bias=False)
        self.to_kv = nn.Linear(width, 2 * head, bias=False)
        self.to_out = nn.Linear(heads * head, width, bias=False)
        self.ff = nn.Sequential(
            nn.Linear(width, 8 * width, bias=False), GatedLinear(), nn.Linear(4 * width, width, bias=False)
        )

    def forward(self, image: Tensor, text: Tensor, kept: Tensor) -> Tensor:
        image = self.norm(image)
        queries = self.to_q(image).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        keys, values = (each[:, None] for each in self.to_kv(text).chunk(2, dim=-1))
        seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=kept[:, None, None])
        attended: Tensor = self.to_out(seen.transpose(1, 2).flatten(2)) + self.ff(image)
        return attended


class Rotary(nn.Module):
    """Rotary positions. The checkpoint holds their frequencies, which are made anew in float32: rounded to half
    precision they would turn the last of 257 tokens by up to half a radian too much or too little."""

    def __init__(self, head: int) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("inv_freq", self.frequencies())

    def frequencies(self) -> Tensor:
        """(head / 2,): 10000^(-2i / head)."""
        return torch.pow(10000.0, -torch.arange(0, self.head, 2) / self.head)

    def forward(self, features: Tensor) -> Tensor:
        """Turn (…, tokens, head): the first half of the features with the second, token n by n · frequency."""
        at = torch.arange(features.shape[-2], dtype=torch.float32)
        angles = (at[:, None] * self.frequencies()).repeat(1, 2).to(features.device)
        first, second = features.chunk(2, dim=-1)
        cosines, sines = angles.cos().to(features.dtype), angles.sin().to(features.dtype)
        return features * cosines + torch.cat([-second, first], dim=-1) * sines


class ImageAttention(nn.Module):
    """Image tokens among themselves, with rotary positions; attention and feed-forward side by side, as in PaLM."""

    def __init__(self, width: int, head: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.split = (heads * head, head, head, 8 * width)
        self.norm = BiaslessNorm(width)
        self.rotary_emb = Rotary(head)
        self.fused_attn_ff_proj = nn.Linear(width, sum(self.split), bias=False)
        self.attn_out = nn.Linear(heads * head, width, bias=False)
        self.ff_out = nn.Sequential(GatedLinear(), nn.Linear(4 * width, width, bias=False))

    def forward(self, image: Tensor) -> Tensor:
        queries, keys, values, inner = self.fused_attn_ff_proj(self.norm(image)).split(self.split, dim=-1)
        queries = self.rotary_emb(queries.unflatten(-1, (self.heads, -1)).transpose(1, 2))
        seen = F.scaled_dot_product_attention(queries, self.rotary_emb(keys)[:, None], values[:, None])
        attended: Tensor = self.attn_out(seen.transpose(1, 2).flatten(2)) + self.ff_out(inner)
        return attended


class Residual(nn.Module):
    """What a module gives, and what it was given."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, image: Tensor, *others: Tensor) -> Tensor:
        changed: Tensor = self.fn(image, *others) + image
        return changed


class Fusion(nn.Module):
    """Args:
    width: of CLIP's projection, 1024.
    depth, heads, head: layers, query heads and their width; 4, 16 and 64 in the public checkpoint.
    """

    def __init__(self, width: int, *, depth: int = 4, heads: int = 16, head: int = 64) -> None:
        super().__init__()
        pairs = [(TextAttention(width, head, heads), ImageAttention(width, head, heads)) for _ in range(depth)]
        self.layers = nn.ModuleList([nn.ModuleList([Residual(one), Residual(other)]) for one, other in pairs])

    def forward(self, image: Tensor, text: Tensor, kept: Tensor) -> Tensor:
        """Args:
            image: (N, I, width) tokens.
            text: (N, T, width) tokens.
            kept: (N, T) bool, the words that may be looked at; at least one of each.
        Returns:
            (N, I, width).
        """
        for pair in self.layers:
            to_text, to_image = pair.children()
            image = to_image(to_text(image, text, kept))
        return image


def words_kept(text: Tensor, condition: Tensor, threshold: float) -> Tensor:
    """Which words of a prompt a condition is about.

    A word's closeness is its largest product with a word of the condition; it is kept where that is more than
    `threshold` of the closest word's.

    Args:
        text: (N, T, width) projected tokens of prompts.
        condition: (C, width) projected tokens of the condition.
    Returns:
        (N, T) bool.
    """
    closeness = (text @ condition.T).amax(dim=-1)
    return closeness / closeness.amax(dim=-1, keepdim=True) > threshold
