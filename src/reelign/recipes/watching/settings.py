"""Settings of the watch on reward hacking."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from reelign.errors import ReelignError

Action = Literal["warn", "stop", "roll_back"]


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchSettings:
    """What is looked at while a policy learns from a reward, and what happens when the reward is being hacked."""

    every: int = 0
    """Steps between two looks, the first of them before the first step; 0 takes none."""
    prompts: tuple[str, ...] = ()
    """What every look makes; empty takes the workspace's held-out prompts."""
    count: int = 16
    """How many of the workspace's own."""
    seeds: int = 2
    """Videos of each prompt; diversity within a prompt is measured from two on."""
    held_out: tuple[str, ...] = ()
    """Rewards that training does not see, named as everywhere: a name, package.module:object, or a URL."""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What they are opened with, by name."""
    proxies: tuple[str, ...] = ("dynamic-degree", "sharpness", "colour")
    """Measures that a better video need not change, rewards too; diversity and the distance to the base are always
    taken."""
    band: tuple[float, float] = (0.5, 2.0)
    """Least and most of a measure as shares of the base's: outside, beyond chance, is an alarm."""
    bands: Mapping[str, tuple[float, float] | None] = field(default_factory=dict)
    """Of single measures, by dimension: `dynamic_degree: [0.7, 3]`; null gives no alarm."""
    level: float = 0.95
    """Coverage of the intervals that alarms are read from, of all looks together."""
    patience: int = 2
    """Looks in a row with an alarm before anything is done."""
    action: Action = "warn"
    """`warn` says so and goes on; `stop` ends the run; `roll_back` ends it at the best look for what training does not
    see."""
    batch_size: int = 4
    """Videos that are sampled, decoded and scored at a time."""
    shown: int = 4
    """Prompts whose first videos stand in the grid, the base's above; 0 makes none."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("every", 0), ("shown", 0), ("count", 2), ("seeds", 1), ("patience", 1), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.level < 1:
            raise ValueError(f"level must be in (0, 1), got {self.level}")
        for name, band in (("band", self.band), *((f"bands.{key}", each) for key, each in self.bands.items())):
            if band is not None and not 0 <= band[0] < band[1]:
                raise ValueError(f"{name} must be two increasing shares of at least 0, got {list(band)}")
        if len(self.prompts) == 1 or len(set(self.prompts)) < len(self.prompts):
            raise ValueError(f"prompts must be two or more different ones, got {list(self.prompts)}")
        unknown = [name for name in self.options if name not in (*self.held_out, *self.proxies)]
        if unknown:
            raise ValueError(f"options are of rewards in held_out or proxies, and {unknown[0]!r} is in neither")
        if self.every and self.action == "roll_back" and not self.held_out:
            raise ValueError("action=roll_back goes by rewards that training does not see; name some in held_out")


def check_bands(settings: WatchSettings, measures: Sequence[str]) -> None:
    """Refuse bands of measures that no look takes: with a misspelt one the measure would keep the band of all.

    Args:
        settings: which name bands.
        measures: the dimensions that every look has, known once its rewards are open.
    """
    for name in settings.bands:
        if name not in measures:
            near = difflib.get_close_matches(name, measures, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ReelignError(
                f"watch.bands names {name!r}, which the watch does not measure.",
                f"{hint}It measures: {', '.join(measures)}; watch.proxies adds others.",
            )
