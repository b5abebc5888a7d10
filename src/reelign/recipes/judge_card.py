"""What the cards of trained rewards and of trained critics have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from reelign.files import write_text
from reelign.recipes.run_config import as_yaml


def write_judge_card(folder: Path, text: str, *, base_model: str, library: str, tags: Sequence[str]) -> Path:
    """Write `README.md` beside the weights, with the head that the hub reads; returns its path.

    Args:
        folder: of the saved model.
        text: of the card.
        base_model: hub id or folder that training started from.
        library: that opens it.
        tags: on the hub.
    """
    data = ModelCardData(
        # The hub refuses a card whose base model is a path.
        base_model=base_model if base_model.count("/") == 1 and not Path(base_model).exists() else None,
        library_name=library,
        tags=list(tags),
    )
    path = folder / "README.md"
    write_text(path, f"---\n{data.to_yaml()}\n---\n\n{text}")
    ModelCard.load(path)  # a card that the hub could not read is our mistake
    return path


def notes_of(left_out: Mapping[str, int], stopped: str | None, alarm: str | None) -> list[str]:
    """A line each: what was left out, why training ended early, what was noticed of learning by heart."""
    notes = [f"- left out: {count} x {reason}" for reason, count in left_out.items()]
    notes += [f"- ended before its last step: {stopped}"] if stopped else []
    return [*notes, *([f"- overfitting: {alarm}"] if alarm else [])]


def settings_lines(config: Mapping[str, Any]) -> list[str]:
    """The last lines of a card: the settings of the run."""
    return ["Settings of the run:", "", "```yaml", as_yaml(dict(config)).rstrip(), "```", ""]
