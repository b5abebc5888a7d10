"""Offline alignment: stored preferences, a LoRA policy, one objective, the one Trainer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.generators.base import Conditioning, Generator
from reelign.objectives import DPO, KTO, RWR, SFT
from reelign.recipes.plans import Planner, check, data_key
from reelign.recipes.preference_data import PreferenceData
from reelign.recipes.settings import AlignSettings
from reelign.recipes.training_data import training_data
from reelign.records import Workspace
from reelign.training import ALONE, HeldOutPairs, Policy, Ranks, Trainer
from reelign.training.caches import cached_prompts
from reelign.training.sharding import wanted_by_launcher

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

    @property
    def seconds_per_step(self) -> float:
        """Of the last step: the first ones warm up."""
        *_, last = (self.folder / "metrics.jsonl").read_text().splitlines()
        return float(json.loads(last)["seconds"])


def align(
    workspace: Workspace,
    generator: Generator,
    settings: AlignSettings,
    *,
    data: PreferenceData | None = None,
    ranks: Ranks = ALONE,
) -> Aligned:
    """Train an adapter on the workspace's preferences, or on the given ones; a stopped run goes on.

    Args:
        workspace: takes the run's folder, and brings the preferences where `data` is None.
        generator: the base; it carries the trained adapter afterwards.
        settings: the objective and how to optimise it.
        data: preferences from elsewhere, such as `training_data` of a file of pairs.
        ranks: the processes that train together; `batch_size` is that of each.
    Raises:
        ReelignError: there are no preferences, or the run's name is taken by one with other settings.
    """
    data = data or training_data(workspace, settings)
    watched = settings.monitor.held_out > 0
    kept, held_out = data.split(settings.monitor.held_out, settings.seed) if watched else (data, data)
    check(settings, generator, kept)
    folder = workspace.root / "runs" / settings.run
    together = replace(settings, batch_size=settings.batch_size * ranks.count)
    with ranks.first():
        if ranks.main:
            claim_run(folder, run_content(generator, settings, data))
        conditioning = cached_prompts(data.prompts, generator, workspace.root / "cache" / "text")
        monitors = [_watch(workspace, generator, settings, held_out, conditioning)] if watched else []
        plan = Planner(workspace, generator, together, kept, conditioning).plan()
    sharded = settings.trainer.sharded or wanted_by_launcher()
    policy = Policy(generator, settings.lora, seed=settings.seed, ranks=ranks, sharded=sharded)
    title = f"align {settings.run}"
    trainer = Trainer(policy, plan.stream, plan.step, settings.trainer, folder, title=title, monitors=monitors)
    started_from = trainer.train()
    if trainer.ema:
        policy.load_state_dict(trainer.ema)
    policy.save(folder / ADAPTER_FOLDER)
    return Aligned(folder, folder / ADAPTER_FOLDER, plan.samples, data.left_out, started_from, trainer.verdict())


def run_content(generator: Generator, settings: AlignSettings, data: PreferenceData) -> dict[str, Any]:
    """All that decides what a run comes to."""
    return {"model": generator.identity, "data": data_key(settings, data), "align": asdict(settings)}


def claim_run(folder: Path, config: dict[str, Any]) -> None:
    """Write the resolved config into the run's folder, or refuse one that holds a run with another config."""
    check_claim(folder, config)
    # Whole or not at all: half a config, left by a kill, would refuse the very run it belongs to.
    write_text(folder / CONFIG_FILE, as_yaml(config))


def check_claim(folder: Path, config: dict[str, Any]) -> None:
    """Refuse a folder that holds a run with another config.

    A setting that its reelign did not have yet is taken to have stood at its default.
    """
    path = folder / CONFIG_FILE
    if path.exists() and _filled(yaml.safe_load(path.read_text()), _plain(config), _defaults(config)) != _plain(config):
        raise ReelignError(
            f"The run {folder.name} in {folder.parent} was made with other settings or other data.",
            "Give this one a name of its own (run=NAME), or remove that folder.",
        )


def as_yaml(config: dict[str, Any]) -> str:
    """Settings as a config file holds them."""
    return str(yaml.safe_dump(_plain(config), sort_keys=False))


def _defaults(config: dict[str, Any]) -> dict[str, Any]:
    align = _plain(asdict(AlignSettings()))
    objective = (config.get("align") or {}).get("objective") or {}
    kinds = [kind for kind in (DPO, SFT, RWR, KTO) if kind().name == objective.get("name")]
    return {"align": {**align, "objective": _plain(asdict(kinds[0]())) if kinds else {}}}


def _filled(old: Any, new: Any, defaults: Any) -> Any:
    """`old` with the defaults of what only `new` names."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping) and isinstance(defaults, Mapping)):
        return old
    later = {key: defaults[key] for key in new if key not in old and key in defaults}
    return {**{key: _filled(value, new.get(key), defaults.get(key)) for key, value in old.items()}, **later}


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
