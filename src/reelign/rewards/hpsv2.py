"""HPSv2 and HPSv2.1: a CLIP-H fine-tuned on rankings of images; its open_clip weights in transformers' CLIPModel."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from reelign.rewards.base import RewardCard, Videos
from reelign.rewards.clip_towers import VIT_H, ClipReward, ClipTower
from reelign.rewards.images import Reduction
from reelign.rewards.loading import fetch_file, load_part, load_strictly, read_weights
from reelign.rewards.preprocess import Fit, Preprocessing, Resizer

OUTSIDE = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",  # spelled so in transformers
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "visual.proj": "visual_projection.weight",
    "logit_scale": "logit_scale",
}
"""Keys of open_clip's CLIP outside its blocks -> keys of transformers' CLIPModel."""
TRANSPOSED = ("text_projection", "visual.proj")
"""Matrices that open_clip multiplies from the right."""
INSIDE = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
BLOCK = re.compile(r"^(visual\.)?transformer\.resblocks\.(\d+)\.(.+)\.(weight|bias)$")
PACKED = re.compile(r"^(visual\.)?transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)$")


def from_open_clip(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename open_clip's CLIP weights to those of transformers' CLIPModel; unknown keys are kept for the strict load.

    The packed query-key-value projections are cut in three, and the two output projections are transposed.
    """
    converted: dict[str, Tensor] = {}
    for key, value in weights.items():
        if packed := PACKED.match(key):
            for name, part in zip("qkv", value.chunk(3), strict=True):
                converted[f"{_layer(packed[1], packed[2])}.self_attn.{name}_proj.{packed[3]}"] = part
        elif (block := BLOCK.match(key)) and block[3] in INSIDE:
            converted[f"{_layer(block[1], block[2])}.{INSIDE[block[3]]}.{block[4]}"] = value
        elif key != "attn_mask":  # a buffer of older files: the causal mask, which transformers makes itself
            converted[OUTSIDE.get(key, key)] = value.T if key in TRANSPOSED else value
    return converted


def _layer(visual: str | None, number: str) -> str:
    return f"{'vision_model' if visual else 'text_model'}.encoder.layers.{number}"


class HPSv2(ClipReward):
    """cos(text, frame), about 0.2 to 0.3 (Wu et al. 2023, arXiv:2306.09341); compare scores of one prompt only.

    The original makes a frame's longest side 224 and pads it with black before it normalises; a frame whose longest
    side is 224 already stays unpadded there and fails unless it is square: here it is padded too. The original mends
    broken Unicode and HTML entities in a prompt first (ftfy); here they are read as they stand.

    Args:
        model: hub id, folder or file of open_clip's state dict.
        tokenizer: hub id or folder of the tokenizer and the config of the CLIPModel; '' is CLIP-H's.
        fit: `pad` as the original does; VADER and T2V-Turbo `stretch`.
        antialias: whether frames are smoothed before they shrink. The original leaves it to torchvision, whose version
            it does not pin: since 0.17 it does so, before (and when the papers' numbers were taken) it did not.
        The rest is as for ClipReward.
    """

    card = RewardCard(
        what="Which image people rank higher for a prompt, frame by frame; trained on HPD v2",
        dimensions=("overall",),
        differentiable=True,
        frames_needed=1,
        weights="xswu/HPSv2",
        licence="Apache-2.0",
        size="986 M parameters, 3.9 GB in fp32",
    )
    name = "hpsv2"
    dimensions = card.dimensions
    tokenizer = VIT_H
    fit: Fit = "pad"
    files: tuple[str, ...] = ("HPS_v2_compressed.pt", "HPS_v2_compressed.safetensors")

    def __init__(
        self,
        *,
        model: str = "",
        tokenizer: str = "",
        fit: Fit | Literal[""] = "",
        antialias: bool = True,
        frames: int | None = None,
        reduce: Reduction = "mean",
        batch_size: int = 32,
        device: str = "auto",
        dtype: str = "auto",
        expected_score: float | None = None,
    ) -> None:
        self.antialias = antialias
        super().__init__(
            model=model,
            tokenizer=tokenizer,
            fit=fit,
            frames=frames,
            reduce=reduce,
            batch_size=batch_size,
            device=device,
            dtype=dtype,
            expected_score=expected_score,
        )

    def open(self, model: str, tokenizer: str, device: torch.device, dtype: torch.dtype) -> ClipTower:
        from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
        from transformers.initialization import no_init_weights

        geometry = tokenizer or self.tokenizer
        config: Any = load_part(CLIPConfig, geometry)
        with no_init_weights():
            clip = CLIPModel(config).to(dtype)
        weights = read_weights(fetch_file(model, self.files))
        load_strictly(clip, from_open_clip(weights), model)
        clip.to(device).eval().requires_grad_(False)
        return ClipTower(clip, load_part(CLIPTokenizer, geometry), self.name)

    def preprocessing(self, fit: Fit) -> Preprocessing:
        # The original resizes after ToTensor, so on floats: nothing is rounded.
        resizer: Resizer = "float" if self.antialias else "float_aliased"
        return Preprocessing(size=self.tower.image_size, fit=fit, resizer=resizer)

    def score_frames(self, videos: Videos, prompts: Sequence[str]) -> list[Tensor]:
        return self.cosines(videos, prompts)


class HPSv21(HPSv2):
    """HPSv2.1: the same on more data; scores spread from about 0.14 to 0.34."""

    card = RewardCard(
        what="HPSv2 trained on more rankings, frame by frame",
        dimensions=("overall",),
        differentiable=True,
        frames_needed=1,
        weights="xswu/HPSv2",
        licence="Apache-2.0",
        size="986 M parameters, 3.9 GB in fp32",
    )
    name = "hpsv2.1"
    files = ("HPS_v2.1_compressed.pt", "HPS_v2.1_compressed.safetensors")
