"""The model card of a trained critic: what it was trained on, and how often it is right on votes that it never saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelign.recipes.critic.watch import Told
from reelign.recipes.judge_card import notes_of, settings_lines, write_judge_card

KINDS = {"pairwise": "of two videos, in both orders", "three_level": "of one video: good, normal or bad"}


@dataclass(frozen=True, kw_only=True)
class CriticNumbers:
    """What is known of a trained critic, as `numbers.json` and its card hold it."""

    dimensions: tuple[str, ...]
    votes: int
    """Trained on."""
    pairs: int
    """Of them, votes on pairs; the others are on single videos."""
    reasons: int
    """Of them, those with a reason."""
    steps: int
    trained_values: int
    """Numbers that trained."""
    left_out: Mapping[str, int]
    held_out_votes: int
    told: Mapping[str, Mapping[str, Told]]
    """Held-out questions by kind and dimension, answered in its own words."""
    stopped: str | None
    """Why it ended before its last step."""
    alarm: str | None
    """What was noticed of learning by heart."""


def write_critic_card(folder: Path, *, base_model: str, numbers: CriticNumbers, config: Mapping[str, Any]) -> Path:
    """Write `README.md` beside the weights.

    Args:
        folder: of the saved critic.
        base_model: hub id or folder that training started from.
        numbers: what was measured.
        config: the settings of the run.
    """
    text = _text(base_model, numbers, config)
    tags = ["video", "judge", "preference", "reelign"]
    return write_judge_card(folder, text, base_model=base_model, library="transformers", tags=tags)


def _text(base_model: str, numbers: CriticNumbers, config: Mapping[str, Any]) -> str:
    notes = notes_of(numbers.left_out, numbers.stopped, numbers.alarm)
    rows = [
        f"| {name} | {KINDS[kind]} | {own.asked} | {own.right / own.asked:.3f} | {own.unread} |"
        for kind, by in numbers.told.items()
        for name, own in by.items()
    ]
    held_out = (
        [
            f"Asked about {numbers.held_out_votes} votes on videos of prompts that were kept out of training; an",
            "answer without a verdict is not right:",
            "",
            "| dimension | question | asked | right | without a verdict |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "How it does on other videos, and whether it minds which one is shown first: `reelign critic evaluate`.",
        ]
        if rows
        else ["It was asked about no votes kept out of training, so nothing is known of how it does on others."]
    )
    lines = [
        f"# A video critic: {', '.join(numbers.dimensions)}",
        "",
        "Compares two videos, or judges one as good, normal or bad, and gives its reasons first. It was made from",
        f"{base_model} with `reelign critic train`, on {numbers.votes} votes, {numbers.pairs} of them on pairs and",
        f"{numbers.reasons} with a reason, in {numbers.steps} steps of {numbers.trained_values:,} values.",
        "",
        *held_out,
        *(["", *notes] if notes else []),
        "",
        "```python",
        "from reelign.critics import open_critic",
        "from reelign.video import read_video",
        "",
        'critic = open_critic("path/to/this/folder")',
        f'said = critic.compare(read_video("a.mp4"), read_video("b.mp4"), "a prompt", "{numbers.dimensions[0]}")',
        "print(said.verdict, said.certainty, said.reason)",
        "```",
        "",
        *settings_lines(config),
    ]
    return "\n".join(lines)
