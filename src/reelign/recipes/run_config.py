"""What a run was made with, in its folder's `config.yaml`: written once, and compared when it goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.generators.base import Generator
from reelign.objectives import DPO, KTO, RWR, SFT
from reelign.recipes.data.clips import Clip
from reelign.recipes.data.preferences import PreferenceData
from reelign.recipes.offline.samples import data_key
from reelign.recipes.settings import AlignSettings, RunSettings
from reelign.records import content_key
from reelign.training.checkpoints import checkpoint_folders

CONFIG_FILE = "config.yaml"
ONLOOKERS = ("samples", "trackers")
"""Settings that a run may go on without, or with others: they change nothing of what is trained."""


BEFORE_STEPS = (
    *("metrics.jsonl", "checkpoints", "watch", "samples", "rollouts"),
    *("tensorboard", "wandb", "wandb-id", "trackio-id"),
)
"""What a run may leave in its folder before its first step is done."""
HASHED = ("data", "standings", "drawn", "start", "latent_reward")
"""Of a config, what stands for contents that are not in it."""
TOLD = 5
"""Differences that a refusal names."""
LONGEST = 40
"""Characters of a value that a refusal repeats."""

LATER = ("precision", "standings", "drawn", "vae", "reward_version")
"""What runs of earlier reeligns did not write down; they are taken to have been made with what there is."""


def model_content(generator: Generator) -> dict[str, Any]:
    """What of the model decides what a run comes to."""
    denoisers: dict[str, Any] = dict(generator.denoisers)
    precision = {name: str(denoiser.dtype).removeprefix("torch.") for name, denoiser in denoisers.items()}
    return {"model": generator.identity, "precision": precision}


def run_content(
    generator: Generator, settings: AlignSettings, data: PreferenceData, drawn: Sequence[Clip] = ()
) -> dict[str, Any]:
    """All that decides what a run comes to; `drawn` are videos that do not follow from the data."""
    content = {**model_content(generator), "data": data_key(settings, data)}
    # Beside the data and not of them: runs on the same preferences stay comparable, as a control with its run.
    if settings.histogram_alpha:
        content["standings"] = content_key(data.sides())
    if drawn:
        content["drawn"] = content_key([clip.name for clip in drawn])
    return {**content, "align": asdict(settings)}


def claim_run(folder: Path, config: dict[str, Any], kind: type[RunSettings] = AlignSettings) -> None:
    """Write the resolved config into the run's folder, or refuse one that holds a run with another config.

    A run that ended before its first step has trained nothing: its name is free for another config, and what it left,
    such as looks of a watch with other settings, is removed.
    """
    check_claim(folder, config, kind)
    if differences(folder, config, kind):
        for name in BEFORE_STEPS:
            _remove(folder / name)
    # Whole or not at all: half a config, left by a kill, would refuse the very run it belongs to.
    write_text(folder / CONFIG_FILE, as_yaml(config))


def check_claim(folder: Path, config: dict[str, Any], kind: type[RunSettings] = AlignSettings) -> None:
    """Refuse a folder that holds a run with another config and at least one step.

    Raises:
        ReelignError: there is one; it names what differs.
    """
    found = differences(folder, config, kind)
    if found and has_steps(folder):
        more = f" and {len(found) - TOLD} more" if len(found) > TOLD else ""
        raise ReelignError(
            f"The run {folder.name} in {folder.parent} was made with other settings or other data: "
            f"{', '.join(found[:TOLD])}{more}.",
            "Give this one a name of its own (run=NAME), or remove that folder.",
        )


def has_steps(folder: Path) -> bool:
    """Whether a run's folder holds a step's metrics, a checkpoint, or anything that is made after steps."""
    metrics = folder / "metrics.jsonl"
    if checkpoint_folders(folder / "checkpoints") or (metrics.exists() and b"\n" in metrics.read_bytes()):
        return True
    others = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    return any(name not in (CONFIG_FILE, *BEFORE_STEPS) for name in others)


def differences(folder: Path, config: dict[str, Any], kind: type[RunSettings] = AlignSettings) -> list[str]:
    """In words, what decides a run and is not as in the config that its folder holds; empty where it holds none.

    A setting that its reelign did not have yet is taken to have stood at its default, which `kind` of settings has.
    """
    path, new = folder / CONFIG_FILE, _plain(config)
    if not path.exists():
        return []
    old = filled(yaml.safe_load(path.read_text()), new, _defaults(config, kind))
    return _differing(_deciding(old), _deciding(new))


def _differing(old: Any, new: Any, key: str = "") -> list[str]:
    """`align.batch_size was 2 and is 4`, of every value that differs, in the order of the new ones."""
    if old == new:
        return []
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = {**new, **old}
        inner = [_differing(old.get(name), new.get(name), f"{key}.{name}" if key else str(name)) for name in names]
        return [each for found in inner for each in found]
    told = [json.dumps(value, default=str) for value in (old, new)]
    # A long value, or a key that stands for data, would tell nobody anything.
    named_alone = key in HASHED or max(map(len, told)) > LONGEST
    return [key if named_alone else f"{key} was {told[0]} and is {told[1]}"]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _deciding(config: dict[str, Any]) -> dict[str, Any]:
    """The config without what only looks on."""
    align = {name: value for name, value in (config.get("align") or {}).items() if name not in ONLOOKERS}
    return {**config, "align": align}


def as_yaml(config: dict[str, Any]) -> str:
    """Settings as a config file holds them."""
    return str(yaml.safe_dump(_plain(config), sort_keys=False))


def _defaults(config: dict[str, Any], kind: type[RunSettings]) -> dict[str, Any]:
    align = _plain(asdict(kind()))
    objective = (config.get("align") or {}).get("objective") or {}
    kinds = [kind for kind in (DPO, SFT, RWR, KTO) if kind().name == objective.get("name")]
    later = {key: config[key] for key in LATER if key in config}
    return {**later, "align": {**align, "objective": _plain(asdict(kinds[0]())) if kinds else {}}}


def filled(old: Any, new: Any, defaults: Any) -> Any:
    """`old` with the defaults of what only `new` names, in nested mappings too."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping) and isinstance(defaults, Mapping)):
        return old
    later = {key: defaults[key] for key in new if key not in old and key in defaults}
    return {**{key: filled(value, new.get(key), defaults.get(key)) for key, value in old.items()}, **later}


def _plain(value: Any) -> Any:
    """What YAML can hold: tuples become lists."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
