"""Prompts that are trained on and evaluated on: what is measured on them is no proof of anything learnt."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from reelign.errors import ReelignError
from reelign.recipes.data.preferences import PreferenceData
from reelign.recipes.data.real_clips import read_real
from reelign.recipes.settings import AlignSettings
from reelign.records import FileVideo, ImagePrompt, Workspace


def shared_prompts(trained: Iterable[str], held_out: Iterable[str]) -> list[str]:
    """The held-out prompts that are trained on too, image and all, whatever their capitals, spaces and full stop."""
    seen = {_plain(prompt) for prompt in trained}
    return [prompt for prompt in dict.fromkeys(held_out) if _plain(prompt) in seen]


def warn_of_shared(trained: Iterable[str], held_out: Iterable[str]) -> list[str]:
    """Say which prompts are on both sides, where any are, and return them."""
    held_out = list(dict.fromkeys(held_out))
    shared = shared_prompts(trained, held_out)
    if shared:
        warnings.warn(
            f"Of {len(held_out)} held-out prompts {len(shared)} {'is' if len(shared) == 1 else 'are'} trained on too, "
            f"such as {shared[0]!r}: a gain on what was trained on does not show that it carries over. "
            "Take them out of one of the two.",
            stacklevel=3,
        )
    return shared


def trained_prompts(settings: AlignSettings, data: PreferenceData) -> list[str]:
    """The prompts of everything that an alignment trains on, real clips too."""
    rows = {*data.rows, *(each.row for each in data.candidates or ())}
    real = (
        [each.prompt for each in read_real(settings.real, settings.images)[: data.limit]]
        if settings.anchors.real
        else []
    )
    return [*(data.prompts[row] for row in sorted(rows)), *real]


def prompts_beside(real: Iterable[FileVideo], prompts: Iterable[str]) -> list[str]:
    """The prompts of all that a run trains on which makes its videos itself: its own, and those of real clips."""
    return [*prompts, *(each.prompt for each in real)]


def training_prompts(workspace: Workspace, limit: int | None = None) -> list[str]:
    """The prompts of a run that makes its videos itself, at most `limit`.

    Raises:
        ReelignError: the workspace has none.
    """
    prompts = workspace.asked_in("train")[:limit]
    if not prompts:
        raise ReelignError(
            "The workspace has no prompts in split 'train'.", "Add some: reelign init FOLDER --prompts prompts.txt"
        )
    return prompts


def _plain(prompt: str) -> tuple[str, str]:
    text = " ".join(prompt.casefold().split()).rstrip(".")
    return text, prompt.image_key if isinstance(prompt, ImagePrompt) else ""
