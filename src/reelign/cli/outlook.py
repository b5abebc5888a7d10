"""What `reelign align --dry-run` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reelign.recipes.dry_run import Component, RunOutlook

FATES = {"training": "stays loaded", "at times": "loaded when it is needed, then dropped", "": "not loaded"}


def print_outlook(found: RunOutlook) -> None:
    """Settings, data, steps, models and files of a run that was not started."""
    from reelign.recipes.run_config import as_yaml

    settings = as_yaml({"align": asdict(found.settings)}).rstrip()
    parts = [*_data(found), *_steps(found), *found.told, *_models(found), *_files(found)]
    print("\n".join([settings, "", *parts, "Nothing was started."]))


def _data(found: RunOutlook) -> list[str]:
    from reelign.recipes.dry_run import Outlook

    shape = " x ".join(map(str, found.latents))
    if not isinstance(found, Outlook):
        return [f"data: {found.prompts} prompts, whose videos it makes itself, latents {shape}"]
    first = f"data: {found.pairs} pairs of {found.prompts} prompts, latents {shape}"
    watched = [f"  held out and watched: {found.held_out} pairs"] if found.held_out else []
    return [first, *watched, *(f"  left out: {count} x {reason}" for reason, count in found.left_out.items())]


def _steps(found: RunOutlook) -> list[str]:
    lines = [_training(found), f"  {found.trainable:,} parameters train"]
    if found.goes_on_from:
        lines.append(f"  goes on from step {found.goes_on_from} of the run {found.settings.run}")
    return lines


def _training(found: RunOutlook) -> str:
    from reelign.recipes.dry_run import Outlook

    if not isinstance(found, Outlook):
        return f"training: {found.settings.trainer.steps} steps"
    settings = found.settings
    micro = min(settings.micro_batch_size, settings.batch_size)
    return (
        f"training: {settings.objective.name}, {settings.trainer.steps} steps of {settings.batch_size} "
        f"({micro} at once) over {found.samples} samples, {found.epochs:.3g} epochs"
    )


def _models(found: RunOutlook) -> list[str]:
    made = ((found.prompts_to_encode, "prompts"), (found.videos_to_encode, "videos"))
    encode = [f"{count} {what}" for count, what in made if count]
    lines = [f"model: {found.model}", *map(_model, found.components)]
    return [*lines, f"  to encode: {', '.join(encode) or 'nothing, all is in the cache'}"]


def _model(part: Component) -> str:
    return f"  {part.name}: {part.kind}, {part.nbytes / 1e9:.3g} GB, {FATES[part.used]}"


def _files(found: RunOutlook) -> list[str]:
    return ["files:", *(f"  {path}" for path in found.files)]
