"""A VideoReward of one's own on disk: weights, backbone's config, tokenizer, and everything that its scores depend on.

reward.json          settings, and what a fixed clip scored when it was saved
model.safetensors    backbone.…, reward_tokens, head.weight
config.json, tokenizer.json, …    as transformers writes them
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from reelign.errors import ReelignError
from reelign.files import whole, write_text
from reelign.rewards.loading import load_part, load_strictly, read_weights
from reelign.rewards.qwen_vision import ClipSettings
from reelign.rewards.qwen_vl_weights import empty_backbone
from reelign.rewards.videoreward_clips import VideoRewardSettings
from reelign.rewards.videoreward_model import VideoRewardModel

FORMAT = 1
SETTINGS = "reward.json"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedScores:
    """What the self-test's clip scored when a model was saved."""

    scores: dict[str, float]
    """By dimension."""
    dtype: str
    """Of the weights that scored it; half precision rounds."""


def save_model(model: VideoRewardModel, folder: str | Path, *, scores: Mapping[str, float] | None = None) -> None:
    """Write a trained model, reward.json last: a folder without it is not finished.

    Args:
        model: with any LoRA merged into its weights.
        folder: made where missing; files of the same names are replaced.
        scores: of the self-test's clip, by dimension (`VideoReward.test_scores`): loading compares with them.
    Raises:
        ReelignError: LoRA is still beside the weights.
    """
    folder = Path(folder)
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    for key in weights:
        if ".lora_" in key or ".base_layer." in key:
            raise ReelignError(f"The model holds LoRA beside its weights: {key}.", "Merge it before saving.")
    with whole(folder / WEIGHTS) as beside:
        save_file(weights, beside)
    model.backbone.config.save_pretrained(folder)
    model.preparer.tokenizer.save_pretrained(folder)
    precision = str(model.head.weight.dtype).removeprefix("torch.")
    known = {"scores": dict(scores), "dtype": precision} if scores else None
    held = {"format": FORMAT, "settings": asdict(model.settings), "self_test": known}
    write_text(folder / SETTINGS, json.dumps(held, indent=2, ensure_ascii=False))


def load_model(
    folder: str | Path, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[VideoRewardModel, SavedScores | None]:
    """Read what `save_model` wrote.

    Args:
        folder: with reward.json.
        device, dtype: of the weights.
    Returns:
        The model, and the scores of the self-test's clip where some were saved.
    Raises:
        ReelignError: a file that is missing or damaged, a later format, a weight that is missing or has no place.
    """
    from transformers import AutoConfig, AutoTokenizer

    folder = Path(folder)
    settings, known = _read_settings(folder / SETTINGS)
    backbone = empty_backbone(load_part(AutoConfig, str(folder)), dtype=dtype)
    model = VideoRewardModel(backbone, load_part(AutoTokenizer, str(folder)), settings)
    if not (folder / WEIGHTS).is_file():
        raise ReelignError(f"{folder} lacks {WEIGHTS}.", "Copy the folder whole.")
    load_strictly(model, read_weights(folder / WEIGHTS), str(folder))
    return model.to(device).eval(), known


def _read_settings(path: Path) -> tuple[VideoRewardSettings, SavedScores | None]:
    try:
        held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if held["format"] != FORMAT:
            raise ReelignError(f"{path} is of format {held['format']}; this version reads {FORMAT}.", "Update reelign.")
        given = held["settings"]
        names = {field.name for field in fields(VideoRewardSettings)}
        if given.keys() != names:
            odd = sorted(given.keys() ^ names)[0]
            raise ReelignError(f"{path} differs from what is known in the setting {odd}.", "Update reelign.")
        lists = {name: tuple(given[name]) for name in ("dimensions", "mean", "std")}
        clips = ClipSettings(**given["clips"])
        known = SavedScores(**held["self_test"]) if held["self_test"] else None
        return VideoRewardSettings(**{**given, **lists, "clips": clips}), known
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ReelignError(f"{path} cannot be read: {error!r}", "Copy the folder whole.") from error
