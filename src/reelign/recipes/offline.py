"""Offline alignment: stored preferences, a LoRA policy, one objective, the one Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator
from reelign.recipes.plans import Planner, check, data_key
from reelign.recipes.preference_data import PreferenceData
from reelign.recipes.settings import AlignSettings
from reelign.recipes.training_data import training_data
from reelign.records import Workspace
from reelign.training import HeldOutPairs, Policy, Trainer
from reelign.training.caches import cached_prompts

__all__ = ["ADAPTER_FOLDER", "CONFIG_FILE", "AlignSettings", "Aligned", "align", "claim_run"]

CONFIG_FILE = "config.yaml"
ADAPTER_FOLDER = "adapter"


@dataclass(frozen=True)
class Aligned:
    """What a call of `align` did."""

    folder: Path
    adapter: Path
    """Folder with `pytorch_lora_weights.safetensors`, as `pipe.load_lora_weights` takes it."""
    samples: int
    """Pairs or videos trained on."""
    left_out: dict[str, int]
    started_from: int
    """The step it went on from; 0 for a fresh run."""
    stopped: str | None = None
    """Why a monitor ended the run before its last step."""


def align(
    workspace: Workspace, generator: Generator, settings: AlignSettings, *, data: PreferenceData | None = None
) -> Aligned:
    """Train an adapter on the workspace's preferences, or on the given ones; a stopped run goes on.

    Args:
        workspace: takes the run's folder, and brings the preferences where `data` is None.
        generator: the base; it carries the trained adapter afterwards.
        settings: the objective and how to optimise it.
        data: preferences from elsewhere, such as `training_data` of a file of pairs.
    Raises:
        ReelignError: there are no preferences, or the run's name is taken by one with other settings.
    """
    data = data or training_data(workspace, settings)
    watched = settings.monitor.held_out > 0
    kept, held_out = data.split(settings.monitor.held_out, settings.seed) if watched else (data, data)
    check(settings, generator, kept)
    folder = workspace.root / "runs" / settings.run
    claim_run(folder, {"model": generator.identity, "data": data_key(settings, data), "align": asdict(settings)})
    policy = Policy(generator, settings.lora, seed=settings.seed)
    conditioning = cached_prompts(data.prompts, generator, workspace.root / "cache" / "text")
    monitors = [_watch(workspace, generator, settings, held_out, conditioning)] if watched else []
    plan = Planner(workspace, generator, settings, kept, conditioning).plan()
    title = f"align {settings.run}"
    trainer = Trainer(policy, plan.stream, plan.step, settings.trainer, folder, title=title, monitors=monitors)
    started_from = trainer.train()
    policy.save(folder / ADAPTER_FOLDER)
    return Aligned(folder, folder / ADAPTER_FOLDER, plan.samples, data.left_out, started_from, trainer.verdict())


def claim_run(folder: Path, config: dict[str, Any]) -> None:
    """Write the resolved config into the run's folder, or refuse one that holds a run with another config."""
    text = yaml.safe_dump(_plain(config), sort_keys=False)
    path = folder / CONFIG_FILE
    if path.exists() and path.read_text() != text:
        raise ReelignError(
            f"The run {folder.name} in {folder.parent} was made with other settings or other data.",
            "Give this one a name of its own (run=NAME), or remove that folder.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    # Beside and renamed: half a config, left by a kill, would refuse the very run it belongs to.
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(text)
    beside.replace(path)


def _watch(
    workspace: Workspace,
    generator: Generator,
    settings: AlignSettings,
    held_out: PreferenceData,
    conditioning: Conditioning,
) -> HeldOutPairs:
    latents, rows = held_out.pairs(generator, workspace.root / "cache")
    if settings.swap:
        latents = latents.flip(1)
    return HeldOutPairs(
        latents,
        conditioning.take(rows),
        settings.monitor,
        micro_batch_size=settings.micro_batch_size,
        seed=settings.seed,
    )


def _plain(value: Any) -> Any:
    """What YAML can hold: tuples become lists."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
