"""mPLUG-Owl2 from parts: transformers' Llama, in which image tokens have keys, values and norms of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.rewards.qalign_vision import Abstractor, VisionTower

LLAMA = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "rms_norm_eps",
    "max_position_embeddings",
)
"""What the checkpoint's config.json says of its Llama; the rest of it is of another class."""


class Ways:
    """Which tokens of the forward call that is under way are of an image: (B, L) bool."""

    image: Tensor


class Multiway(nn.Module):
    """Two copies of a module, `multiway.0` for the tokens of text and `multiway.1` for those of images."""

    def __init__(self, make: Callable[[], nn.Module], ways: Ways) -> None:
        super().__init__()
        self.multiway = nn.ModuleList([make(), make()])
        self.ways = ways

    def forward(self, states: Tensor) -> Tensor:
        text, image = (way(states) for way in self.multiway)
        return torch.where(self.ways.image[..., None], image, text)


class Owl(nn.Module):
    """Language model, vision tower and abstractor under the keys of the public checkpoint: model.… and lm_head.…

    Args:
        config: what the checkpoint's config.json holds.
    Raises:
        ReelignError: a config that is none of mPLUG-Owl2.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        from transformers import LlamaConfig, LlamaForCausalLM
        from transformers.models.llama.modeling_llama import LlamaRMSNorm

        missing = [name for name in (*LLAMA, "visual_config") if name not in config]
        if missing or config.get("rope_scaling"):
            raise ReelignError(
                f"The config has no {missing[0]}." if missing else "The config scales the rotary positions.",
                "Name a checkpoint of Q-Align, such as q-future/one-align.",
            )
        rope = {"rope_type": "default", "rope_theta": config.get("rope_theta", 10000.0)}
        llama: Any = LlamaForCausalLM(LlamaConfig(**{name: config[name] for name in LLAMA}, rope_parameters=rope))
        self.ways = Ways()
        width, eps = config["hidden_size"], config["rms_norm_eps"]
        values = width // config["num_attention_heads"] * config["num_key_value_heads"]
        for layer in llama.model.layers:
            for name in ("k_proj", "v_proj"):
                setattr(layer.self_attn, name, Multiway(lambda: nn.Linear(width, values, bias=False), self.ways))
            for name in ("input_layernorm", "post_attention_layernorm"):
                setattr(layer, name, Multiway(lambda: LlamaRMSNorm(width, eps), self.ways))
        self.model: Any = llama.model
        self.lm_head = llama.lm_head
        seen = config["visual_config"]
        self.model.vision_model = VisionTower(seen["visual_model"])
        self.model.visual_abstractor = Abstractor(seen["visual_abstractor"], width)

    def forward(self, before: Tensor, frames: Tensor, behind: Tensor) -> Tensor:
        """Logits of the next token after a text with frames in it.

        Args:
            before, behind: (T,) token ids of the text on both sides of the frames.
            frames: (B, K, 3, H, W), normalised; all K stand in one place.
        Returns:
            (B, vocabulary).
        """
        batch = len(frames)
        tokens = self.model.visual_abstractor(self.model.vision_model(frames.flatten(0, 1)))
        shown = tokens.unflatten(0, (batch, -1)).flatten(1, 2)
        left, right = (self.model.embed_tokens(ids).expand(batch, -1, -1) for ids in (before, behind))
        length = len(before) + shown.shape[1] + len(behind)
        at = torch.arange(length, device=frames.device).expand(batch, -1)
        self.ways.image = (at >= len(before)) & (at < length - len(behind))
        states = self.model(inputs_embeds=torch.cat([left, shown, right], dim=1), use_cache=False).last_hidden_state
        logits: Tensor = self.lm_head(states[:, -1])
        return logits
