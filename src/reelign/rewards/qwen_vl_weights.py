"""Weights of Qwen-VL backbones: from stock checkpoints, and from those that other codes' classes left behind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.loading import load_part, load_pretrained
from reelign.rewards.qwen_vl import family_of

PLACES = (
    # In a stock checkpoint the language model is `model`; transformers 4.52 moved both parts into one more module.
    (re.compile(r"^(?:model\.)?visual\."), "visual."),
    (re.compile(r"^model\.(?:language_model\.)?(?=embed_tokens\.|layers\.|norm\.)"), "language_model."),
)


def canonical(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's weights by the names of the live backbone's modules, visual.… and language_model.…

    Heads keep their keys.
    """
    renamed = {}
    for key, value in weights.items():
        for pattern, place in PLACES:
            key = pattern.sub(place, key)
        renamed[key] = value
    return renamed


def fetch_folder(source: str) -> Path:
    """The folder of a checkpoint, downloaded where `source` is a hub id.

    Raises:
        ReelignError: no such folder or repository.
    """
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, ignore_patterns=["*.mp4", "*.md"]))
    except (OSError, ValueError) as error:
        raise ReelignError(
            f"{source} is no folder, and the hub gave nothing: {error}",
            "Check the hub id, or download the repository and name its folder.",
        ) from error


def load_backbone(source: str, *, device: torch.device | str, dtype: torch.dtype) -> Any:
    """The backbone of a hub checkpoint or folder, without its language head; every weight in its place.

    Raises:
        ReelignError: another kind of model, or a weight that is missing or has no place.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    family_of(load_part(AutoConfig, source))
    whole = load_pretrained(AutoModelForImageTextToText, source, device=torch.device(device), dtype=dtype)
    return whole.model


def empty_backbone(config: Any, *, dtype: torch.dtype) -> Any:
    """A backbone on the CPU whose weights are yet to be loaded, all of them."""
    from transformers import AutoModel
    from transformers.initialization import no_init_weights

    family_of(config)
    with no_init_weights():
        return AutoModel.from_config(config, dtype=dtype).eval().requires_grad_(False)
