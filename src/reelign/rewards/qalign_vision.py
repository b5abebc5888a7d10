"""mPLUG-Owl2's eyes: a CLIP-like tower, and an abstractor that sums a frame up in 64 tokens and an end token.

transformers has neither. The modules are named so that the public checkpoint's keys are theirs
(github.com/X-PLUG/mPLUG-Owl, mPLUG-Owl2, visual_encoder.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VisionAttention(nn.Module):
    """Self-attention; queries, keys and values stand behind each other within each head of one projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.dense = nn.Linear(width, width)

    def forward(self, states: Tensor) -> Tensor:
        queries, keys, values = self.query_key_value(states).unflatten(-1, (self.heads, 3, -1)).permute(3, 0, 2, 1, 4)
        seen = F.scaled_dot_product_attention(queries, keys, values)
        attended: Tensor = self.dense(seen.transpose(1, 2).flatten(2))
        return attended


class VisionFeedForward(nn.Module):
    """Two linear layers with x · sigmoid(1.702 x) between them."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, states: Tensor) -> Tensor:
        inner = self.fc1(states)
        outer: Tensor = self.fc2(inner * torch.sigmoid(1.702 * inner))
        return outer


class VisionLayer(nn.Module):
    """Attention and feed-forward, each behind a norm and beside a residual."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, eps = config["hidden_size"], config["layer_norm_eps"]
        self.self_attn = VisionAttention(width, config["num_attention_heads"])
        self.input_layernorm = nn.LayerNorm(width, eps=eps)
        self.mlp = VisionFeedForward(width, config["intermediate_size"])
        self.post_attention_layernorm = nn.LayerNorm(width, eps=eps)

    def forward(self, states: Tensor) -> Tensor:
        states = states + self.self_attn(self.input_layernorm(states))
        changed: Tensor = states + self.mlp(self.post_attention_layernorm(states))
        return changed


class VisionEmbeddings(nn.Module):
    """Patches behind a class token, with learned positions, normalised."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, patch = config["hidden_size"], config["patch_size"]
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.patch_embed = nn.Conv2d(3, width, patch, patch, bias=False)
        self.position_embedding = nn.Parameter(torch.zeros(1, (config["image_size"] // patch) ** 2 + 1, width))
        self.pre_layernorm = nn.LayerNorm(width, eps=config["layer_norm_eps"])

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embed(pixels).flatten(2).transpose(1, 2)
        states = torch.cat([self.cls_token.expand(len(pixels), -1, -1), patches], dim=1)
        normed: Tensor = self.pre_layernorm(states + self.position_embedding)
        return normed


class Layers(nn.Module):
    """A list of layers under the key `layers`."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class VisionTower(nn.Module):
    """From (N, 3, H, W) to (N, 1 + patches, width).

    Args:
        config: `visual_model` of the checkpoint's visual_config.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.encoder = Layers([VisionLayer(config) for _ in range(config["num_hidden_layers"])])
        self.post_layernorm = nn.LayerNorm(config["hidden_size"], eps=config["layer_norm_eps"])

    def forward(self, pixels: Tensor) -> Tensor:
        states = self.embeddings(pixels)
        for layer in self.encoder.layers:
            states = layer(states)
        normed: Tensor = self.post_layernorm(states)
        return normed


class AbstractorHeads(nn.Module):
    """Queries look at themselves and at the frame; both have fixed positions, kept in the checkpoint."""

    q_pos_embed: Tensor
    k_pos_embed: Tensor

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, seen = config["hidden_size"], config["encoder_hidden_size"]
        self.heads = config["num_attention_heads"]
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(seen, width), nn.Linear(seen, width)
        self.register_buffer("q_pos_embed", torch.zeros(config["num_learnable_queries"], width))
        self.register_buffer("k_pos_embed", torch.zeros(config["grid_size"] ** 2 + 1, width))

    def forward(self, queries: Tensor, everything: Tensor) -> Tensor:
        positions = torch.cat([self.q_pos_embed, self.k_pos_embed])
        asked, keys, values = (
            each.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for each in (
                self.query(queries + self.q_pos_embed),
                self.key(everything + positions),
                self.value(everything),
            )
        )
        return F.scaled_dot_product_attention(asked, keys, values).transpose(1, 2).flatten(2)


class AbstractorFeedForward(nn.Module):
    """A gated feed-forward with a norm inside."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, inner = config["hidden_size"], config["intermediate_size"]
        self.w1, self.w2, self.w3 = nn.Linear(width, inner), nn.Linear(inner, width), nn.Linear(width, inner)
        self.ffn_ln = nn.LayerNorm(inner, eps=config["layer_norm_eps"])

    def forward(self, states: Tensor) -> Tensor:
        outer: Tensor = self.w2(self.ffn_ln(F.silu(self.w1(states)) * self.w3(states)))
        return outer


class AbstractorOutput(nn.Module):
    """What was seen is added to the queries, and what the feed-forward makes of them."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.out_proj, self.norm2, self.mlp = (
            nn.Linear(width, width),
            nn.LayerNorm(width),
            AbstractorFeedForward(config),
        )

    def forward(self, seen: Tensor, queries: Tensor) -> Tensor:
        queries = queries + self.out_proj(seen)
        changed: Tensor = queries + self.mlp(self.norm2(queries))
        return changed


class AbstractorAttention(nn.Module):
    """One look of the queries at the frame. The residual is that of the normalised queries, as in the original."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.attention, self.output = AbstractorHeads(config), AbstractorOutput(config)
        self.norm1, self.normk = nn.LayerNorm(config["hidden_size"]), nn.LayerNorm(config["hidden_size"])

    def forward(self, queries: Tensor, frame: Tensor) -> Tensor:
        queries = self.norm1(queries)
        everything = torch.cat([queries, self.normk(frame)], dim=1)
        changed: Tensor = self.output(self.attention(queries, everything), queries)
        return changed


class AbstractorLayer(nn.Module):
    """A layer under the key `crossattention`."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.crossattention = AbstractorAttention(config)

    def forward(self, queries: Tensor, frame: Tensor) -> Tensor:
        changed: Tensor = self.crossattention(queries, frame)
        return changed


class Abstractor(nn.Module):
    """From a frame's states (N, 1 + patches, width) to (N, queries + 1, language width); the last is `vit_eos`.

    Args:
        config: `visual_abstractor` of the checkpoint's visual_config.
        language: width of the language model.
    """

    def __init__(self, config: Mapping[str, Any], language: int) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.encoder = Layers([AbstractorLayer(config) for _ in range(config["num_hidden_layers"])])
        self.visual_fc = nn.Linear(width, language)
        self.query_embeds = nn.Parameter(torch.zeros(1, config["num_learnable_queries"], width))
        self.vit_eos = nn.Parameter(torch.zeros(1, 1, language))

    def forward(self, frame: Tensor) -> Tensor:
        queries = self.query_embeds.expand(len(frame), -1, -1)
        for layer in self.encoder.layers:
            queries = layer(queries, frame)
        return torch.cat([self.visual_fc(queries), self.vit_eos.expand(len(frame), -1, -1)], dim=1)
