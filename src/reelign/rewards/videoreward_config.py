"""What VideoReward's model_config.json says of its weights (VideoAlign, train_reward.py save_configs_to_json)."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelign.errors import ReelignError
from reelign.rewards.qwen_vision import ClipSettings
from reelign.rewards.videoreward_clips import VideoRewardSettings

DIMENSIONS = ("VQ", "MQ", "TA")


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicConfig:
    """The part of it that scores depend on."""

    base: str
    """Hub id or folder of the base model."""
    head_width: int
    lora_rank: int
    """0 where the language model was trained without LoRA."""
    lora_scale: float
    """alpha / r, or alpha / √r (rslora)."""
    fps: float
    num_frames: int | None
    max_pixels: int
    mean: tuple[float, ...]
    """Of each dimension's raw score; () where the file keeps none, as after training and before release."""
    std: tuple[float, ...]

    def settings(self) -> VideoRewardSettings:
        return VideoRewardSettings(
            head_width=self.head_width,
            clips=ClipSettings(fps=self.fps, num_frames=self.num_frames, max_pixels=self.max_pixels),
            mean=self.mean,
            std=self.std,
        )


def read_public_config(path: Path) -> PublicConfig:
    """Read a model_config.json.

    Raises:
        ReelignError: no such file, a part that is missing, or a way of training that scores are read otherwise after.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        data, model, lora = held["data_config"], held["model_config"], held["peft_lora_config"]
        _refuse_other_ways(path, data, model)
        rank, alpha = (lora["lora_r"], lora["lora_alpha"]) if lora["lora_enable"] else (0, 0)
        statistics = held.get("inference_config") or {}
        mean, std = (
            tuple(statistics[f"{name}_{kind}"] for name in DIMENSIONS if statistics) for kind in ("mean", "std")
        )
        return PublicConfig(
            base=model["model_name_or_path"],
            head_width=model["output_dim"],
            lora_rank=rank,
            lora_scale=alpha / (math.sqrt(rank) if lora.get("use_rslora") else rank) if rank else 0.0,
            fps=data["fps"],
            num_frames=data["num_frames"],
            max_pixels=data["max_frame_pixels"],
            mean=mean,
            std=std,
        )
    except (OSError, json.JSONDecodeError) as error:
        raise ReelignError(f"{path} cannot be read: {error}", "It stands beside checkpoint-N: copy it too.") from error
    except KeyError as error:
        raise ReelignError(
            f"{path} says nothing of {error.args[0]}.", "Take the one that the training wrote."
        ) from error


def _refuse_other_ways(path: Path, data: dict[str, Any], model: dict[str, Any]) -> None:
    """Refuse what the authors' code can be trained with and no release was."""
    found = {
        "eval_dim": tuple([data["eval_dim"]] if isinstance(data["eval_dim"], str) else data["eval_dim"]),
        "prompt_template_type": data["prompt_template_type"],
        "sample_type": data.get("sample_type", "uniform"),
        "use_special_tokens": model["use_special_tokens"],
    }
    known = {
        "eval_dim": DIMENSIONS,
        "prompt_template_type": "detailed_special",
        "sample_type": "uniform",
        "use_special_tokens": True,
    }
    for name, value in found.items():
        if value != known[name]:
            raise ReelignError(f"{path} says {name} {value!r}.", f"Only {known[name]!r} is known here.")
