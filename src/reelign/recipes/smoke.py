"""A run cut down to a few videos and steps, with everything else as it will be: models, caches, batch, checkpoints."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import yaml

from reelign.recipes.run_config import CONFIG_FILE
from reelign.recipes.settings import AlignSettings, RunSettings

STEPS = 4
SUFFIX = "-smoke"
SettingsT = TypeVar("SettingsT", bound=RunSettings)


def smoke_settings(settings: SettingsT) -> SettingsT:
    """The settings of the cut-down run, under a name of its own.

    The batch keeps its size, so that memory and seconds a step are the real run's; it then holds some videos twice.
    """
    trainer, samples = settings.trainer, settings.samples
    cut = replace(
        settings,
        run=f"{settings.run}{SUFFIX}",
        trainer=replace(trainer, steps=min(trainer.steps, STEPS), checkpoint_every=min(trainer.checkpoint_every, 2)),
        samples=replace(samples, every=min(samples.every, 2)),
    )
    if isinstance(cut, AlignSettings):
        return replace(cut, monitor=replace(cut.monitor, every=min(cut.monitor.every, 2)))
    return cut


def clear_smoke(folder: Path) -> None:
    """Remove an earlier smoke run of that name, which would otherwise be found finished; any other run is left."""
    config = folder / CONFIG_FILE
    if folder.name.endswith(SUFFIX) and config.exists():
        steps = yaml.safe_load(config.read_text())["align"]["trainer"]["steps"]
        if steps <= STEPS:
            shutil.rmtree(folder)
