"""The model card of a trained reward: what it was trained on, and how well it orders pairs that it never saw."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelign.recipes.judge_card import notes_of, settings_lines, write_judge_card
from reelign.recipes.reward.calibration import Calibration


@dataclass(frozen=True, kw_only=True)
class RewardNumbers:
    """What is known of a trained reward, as `numbers.json` and its card hold it."""

    dimensions: tuple[str, ...]
    pairs: int
    """Trained on."""
    videos: int
    """In those pairs."""
    steps: int
    trained_values: int
    """Numbers that trained."""
    left_out: Mapping[str, int]
    held_out_pairs: int
    without_ties: Mapping[str, float]
    """Held-out accuracy by dimension, ties left out; NaN where no pair was decided."""
    with_ties: Mapping[str, float]
    """The same with ties, at the threshold from the calibration pairs; NaN without calibration."""
    calibration: Mapping[str, Calibration]
    theta: Mapping[str, float]
    """Learned or fixed θ of the tie model in training; empty for the other objectives."""
    stopped: str | None
    """Why it ended before its last step."""
    alarm: str | None
    """What was noticed of learning by heart."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it; NaN is null."""
        return {
            **{name: value for name, value in vars(self).items() if name != "calibration"},
            "without_ties": {name: _null(value) for name, value in self.without_ties.items()},
            "with_ties": {name: _null(value) for name, value in self.with_ties.items()},
            "calibration": {name: each.as_dict() for name, each in self.calibration.items()},
        }


def write_reward_card(folder: Path, *, base_model: str, numbers: RewardNumbers, config: Mapping[str, Any]) -> Path:
    """Write `README.md` beside the weights.

    Args:
        folder: of the saved reward.
        base_model: hub id or folder that training started from.
        numbers: what was measured.
        config: the settings of the run.
    """
    text = _text(base_model, numbers, config)
    tags = ["reward-model", "video", "preference", "reelign"]
    return write_judge_card(folder, text, base_model=base_model, library="reelign", tags=tags)


def _text(base_model: str, numbers: RewardNumbers, config: Mapping[str, Any]) -> str:
    names = ", ".join(numbers.dimensions)
    notes = notes_of(numbers.left_out, numbers.stopped, numbers.alarm)
    rows = [_row(numbers, name) for name in numbers.dimensions]
    held_out = (
        [
            f"Measured on {numbers.held_out_pairs} pairs of prompts that were kept out of training:",
            "",
            "| dimension | accuracy without ties | with ties | tie threshold | temperature |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "With ties, a difference of normalised scores up to the threshold says tie; threshold and temperature were",
            "fitted on pairs of other prompts, which are neither trained nor measured on.",
        ]
        if numbers.held_out_pairs
        else ["No pairs were kept out of training, so nothing is known of how it does on others."]
    )
    lines = [
        f"# A video reward: {names}",
        "",
        f"Scores videos with their prompts on {names}; higher is better, 0 and 1 are mean and standard deviation over",
        f"the videos it was trained on. It was made from {base_model} with `reelign reward train`, on {numbers.pairs}",
        f"labelled pairs of {numbers.videos} videos, in {numbers.steps} steps of {numbers.trained_values:,} values.",
        "",
        *held_out,
        *(["", *notes] if notes else []),
        "",
        "```python",
        "from reelign.rewards import open_reward",
        "",
        'reward = open_reward("videoreward", model="path/to/this/folder")',
        "scores = reward.score(videos, prompts, fps=8)  # videos (B, frames, 3, height, width) in [0, 1]",
        "```",
        "",
        *settings_lines(config),
    ]
    return "\n".join(lines)


def _row(numbers: RewardNumbers, name: str) -> str:
    calibration = numbers.calibration.get(name)
    cells = [
        name,
        _share(numbers.without_ties.get(name, math.nan)),
        _share(numbers.with_ties.get(name, math.nan)),
        f"{calibration.tie_threshold:.3f}" if calibration else "–",
        f"{calibration.temperature:.2f}" if calibration else "–",
    ]
    return f"| {' | '.join(cells)} |"


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value
