"""What a run was made with, in its folder's `config.yaml`: written once, and compared when it goes on."""

from __future__ import annotations

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

CONFIG_FILE = "config.yaml"
ONLOOKERS = ("samples", "trackers")
"""Settings that a run may go on without, or with others: they change nothing of what is trained."""


LATER = ("precision", "standings", "drawn")
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
    """Write the resolved config into the run's folder, or refuse one that holds a run with another config."""
    check_claim(folder, config, kind)
    # Whole or not at all: half a config, left by a kill, would refuse the very run it belongs to.
    write_text(folder / CONFIG_FILE, as_yaml(config))


def check_claim(folder: Path, config: dict[str, Any], kind: type[RunSettings] = AlignSettings) -> None:
    """Refuse a folder that holds a run with another config.

    A setting that its reelign did not have yet is taken to have stood at its default, which `kind` of settings has.
    """
    path, new = folder / CONFIG_FILE, _plain(config)
    if not path.exists():
        return
    old = filled(yaml.safe_load(path.read_text()), new, _defaults(config, kind))
    if _deciding(old) != _deciding(new):
        raise ReelignError(
            f"The run {folder.name} in {folder.parent} was made with other settings or other data.",
            "Give this one a name of its own (run=NAME), or remove that folder.",
        )


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
