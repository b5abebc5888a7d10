"""The parts of STDiT3: attention in space and over time, attention to text, what a block does with them.

Written from Open-Sora's report and the papers it stands on: adaptive norms by one shared layer (PixArt,
arXiv:2310.00426, §2.3), norms on queries and keys, rotary places in time (Su et al. 2021, arXiv:2104.09864). Module
names are the keys of the released weights (Open-Sora v1.2.0, opensora/models/stdit/stdit3.py and models/layers).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WAVES = 256
"""Width of the waves that a timestep or a frame rate is read from."""
LONGEST_PERIOD = 10_000.0


def frequencies(count: int) -> Tensor:
    """(count,) fp32 angular frequencies falling from 1 to almost 1 / `LONGEST_PERIOD`."""
    return torch.exp(-math.log(LONGEST_PERIOD) * torch.arange(count, dtype=torch.float32) / count)


class SelfAttention(nn.Module):
    """Attention of tokens (N, L, width) to each other; with angles (L, head width / 2) they know their places."""

    def __init__(self, width: int, heads: int, *, normed: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm: nn.Module = nn.RMSNorm(width // heads, eps=1e-6) if normed else nn.Identity()
        self.k_norm: nn.Module = nn.RMSNorm(width // heads, eps=1e-6) if normed else nn.Identity()
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, angles: Tensor | None) -> Tensor:
        """Tokens (N, L, width) -> (N, L, width); no angles where places play no part."""
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = self.q_norm(query), self.k_norm(key)
        if angles is not None:
            query, key = turned(query, angles), turned(key, angles)
        seen = F.scaled_dot_product_attention(query, key, value)
        found: Tensor = self.proj(seen.transpose(1, 2).flatten(2))
        return found


class CrossAttention(nn.Module):
    """Attention of tokens (B, N, width) to the text (B, L, width) that a mask (B, L) leaves."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_linear = nn.Linear(width, width)
        self.kv_linear = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Tokens (B, N, width) -> (B, N, width); the mask is bool, true where there is text."""
        query = self.q_linear(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.kv_linear(text).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
        found: Tensor = self.proj(seen.transpose(1, 2).flatten(2))
        return found


class FeedForward(nn.Module):
    """Two layers with GELU's tanh approximation between them."""

    def __init__(self, width: int, inner: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, out)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., width) -> (..., out)."""
        found: Tensor = self.fc2(F.gelu(self.fc1(tokens), approximate="tanh"))
        return found


class STDiT3Block(nn.Module):
    """One block over tokens (B, frames, places, width).

    Args:
        over_time: attend over the frames at each place, and not over the places of each frame.
    """

    def __init__(self, width: int, heads: int, inner: int, *, normed: bool, over_time: bool) -> None:
        super().__init__()
        self.over_time = over_time
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attn = SelfAttention(width, heads, normed=normed)
        self.cross_attn = CrossAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.mlp = FeedForward(width, inner, width)
        self.scale_shift_table = nn.Parameter(torch.randn(6, width) / width**0.5)

    def forward(self, tokens: Tensor, text: Tensor, mask: Tensor, level: Tensor, angles: Tensor) -> Tensor:
        """
        Args:
            tokens: (B, F, S, width).
            text: (B, L, width); mask (B, L) bool, true where there is text.
            level: (B, F, 6, width) what the noise level of each frame says to every block; F may be 1 for all alike.
            angles: (F, head width / 2) of the frames' places in time.
        """
        said = (self.scale_shift_table + level).unsqueeze(2)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = said.unbind(-2)
        tokens = tokens + gate * self._attended(self.norm1(tokens) * (1 + scale) + shift, angles)
        tokens = tokens + self.cross_attn(tokens.flatten(1, 2), text, mask).view_as(tokens)
        found: Tensor = tokens + mlp_gate * self.mlp(self.norm2(tokens) * (1 + mlp_scale) + mlp_shift)
        return found

    def _attended(self, tokens: Tensor, angles: Tensor) -> Tensor:
        rows = tokens.transpose(1, 2) if self.over_time else tokens
        seen: Tensor = self.attn(rows.flatten(0, 1), angles if self.over_time else None).view(rows.shape)
        return seen.transpose(1, 2) if self.over_time else seen


class WaveEmbedder(nn.Module):
    """A number a video, such as its timestep or frame rate, as a vector: (B,) -> (B, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(WAVES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, numbers: Tensor) -> Tensor:
        """(B,) -> (B, width), the waves in fp32 before the layers' own precision."""
        angles = numbers[:, None].float() * frequencies(WAVES // 2).to(numbers.device)
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
        found: Tensor = self.mlp(waves.to(next(self.mlp.parameters()).dtype))
        return found


class CaptionEmbedder(nn.Module):
    """Text features (B, L, channels) -> (B, L, width); it keeps the features of no text, which were learned once."""

    y_embedding: Tensor

    def __init__(self, channels: int, width: int, length: int) -> None:
        super().__init__()
        self.y_proj = FeedForward(channels, width, width)
        self.register_buffer("y_embedding", torch.randn(length, channels) / channels**0.5)

    def forward(self, text: Tensor) -> Tensor:
        """(B, L, channels) -> (B, L, width)."""
        found: Tensor = self.y_proj(text)
        return found


class FinalLayer(nn.Module):
    """Tokens (B, F · S, width) -> values of their patches (B, F · S, out), by levels (B, F or 1, width)."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.linear = nn.Linear(width, out)
        self.scale_shift_table = nn.Parameter(torch.randn(2, width) / width**0.5)

    def forward(self, tokens: Tensor, level: Tensor) -> Tensor:
        """(B, F · S, width), levels (B, F or 1, width) -> (B, F · S, out)."""
        shift, scale = (self.scale_shift_table + level.unsqueeze(-2)).unsqueeze(2).unbind(-2)
        frames = self.norm_final(tokens).unflatten(1, (level.shape[1], -1)) * (1 + scale) + shift
        found: Tensor = self.linear(frames.flatten(1, 2))
        return found


class Rotary(nn.Module):
    """Angles of the frames' places: (F,) positions times the weights' own frequencies.

    A buffer under the released key `rope.freqs`, so that it is saved and never trained.
    """

    freqs: Tensor

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.register_buffer("freqs", frequencies(head_width // 2))

    def forward(self, num_frames: int) -> Tensor:
        """(num_frames, head width / 2) angles in radians of frames 0, 1, 2, ..."""
        # In the weights' own precision: in bf16, as the model was trained, the angles are rounded.
        positions = torch.arange(num_frames, device=self.freqs.device, dtype=self.freqs.dtype)
        return positions[:, None] * self.freqs


def turned(heads: Tensor, angles: Tensor) -> Tensor:
    """Pairs of neighbouring features of (N, heads, L, head width), turned by angles (L, head width / 2)."""
    even, odd = heads.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)
