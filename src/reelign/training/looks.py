"""Looks at the policy: every one makes the same prompts at the same seeds, so that two differ by the policy alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.records.bootstrap import Interval, paired_bootstrap

TRAINING, HELD_OUT, PROXY = "training", "held_out", "proxy"
OVERALL = "overall"
"""The dimension that speaks for all of a reward, where it has it; else their mean does."""


@dataclass(frozen=True)
class Look:
    """What the videos of one look score."""

    step: int
    """Optimiser steps done."""
    prompts: tuple[str, ...]
    """(videos,) the prompt of each; videos of one prompt stand together."""
    scores: dict[str, Tensor]
    """`training/DIMENSION` where training has scores, `held_out/REWARD/DIMENSION`, `proxy/MEASURE` -> (videos,) fp32,
    higher is better or more; NaN where a video could not be made or scored."""

    @property
    def clusters(self) -> Tensor:
        """(videos,) the place of each video's prompt: what is resampled, since videos of one prompt are alike."""
        places = {prompt: place for place, prompt in enumerate(dict.fromkeys(self.prompts))}
        return torch.tensor([places[prompt] for prompt in self.prompts])

    @property
    def training(self) -> Tensor | None:
        """(videos,) the reward that training maximises, its dimensions in one number; None where it has no score, as
        of judges that compare."""
        found = self._of(TRAINING)
        return _in_one(found) if found else None

    @property
    def held_out(self) -> dict[str, Tensor]:
        """By the name of a reward that training does not see: (videos,) its dimensions in one number."""
        found: dict[str, dict[str, Tensor]] = {}
        for name, values in self._of(HELD_OUT).items():
            reward, _, dimension = name.rpartition("/")
            found.setdefault(reward, {})[dimension] = values
        return {reward: _in_one(dimensions) for reward, dimensions in found.items()}

    @property
    def held_out_dimensions(self) -> dict[str, Tensor]:
        """`held_out`, and beside it `REWARD/DIMENSION` of each of several: one may fall while another carries the
        mean."""
        rewards = [name.rpartition("/")[0] for name in self._of(HELD_OUT)]
        own = {
            name: values
            for name, values in self._of(HELD_OUT).items()
            if rewards.count(name.rpartition("/")[0]) > 1 and not name.endswith(f"/{OVERALL}")
        }
        return {**self.held_out, **own}

    @property
    def proxies(self) -> dict[str, Tensor]:
        """By the measure's name: (videos,) what no reward should change much."""
        return self._of(PROXY)

    @property
    def failed(self) -> int:
        """How many videos lack a score."""
        return int((~torch.stack(list(self.scores.values())).isfinite().all(dim=0)).sum())

    def metrics(self) -> dict[str, float]:
        """The mean of each score over the videos that have it; what none has is left out."""
        means = {f"watch/{name}": float(values.nanmean()) for name, values in self.scores.items()}
        return {name: value for name, value in means.items() if math.isfinite(value)}

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        scores = {
            name: [value if math.isfinite(value) else None for value in values.tolist()]
            for name, values in self.scores.items()
        }
        return {"step": self.step, "prompts": list(self.prompts), "scores": scores}

    @staticmethod
    def from_dict(kept: Mapping[str, Any]) -> Look:
        scores = {
            name: torch.tensor([math.nan if value is None else value for value in values])
            for name, values in kept["scores"].items()
        }
        return Look(kept["step"], tuple(kept["prompts"]), scores)

    def _of(self, kind: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(f"{kind}/"): values for name, values in self.scores.items() if name.startswith(f"{kind}/")
        }


def gain(now: Tensor, before: Tensor, clusters: Tensor, *, level: float = 0.95, resamples: int = 2000) -> Interval:
    """How much more the videos of one look score than those of another, with its paired bootstrap over prompts.

    Args:
        now, before: (videos,) scores at the same prompts and seeds; a pair with a NaN is left out.
        clusters: (videos,) `Look.clusters`.
    Raises:
        ReelignError: fewer than two prompts have a pair with both scores.
    """
    chance = generator_from("watch", "bootstrap")
    return paired_bootstrap(now - before, clusters, resamples=resamples, level=level, generator=chance)


def write_look(path: Path, look: Look, **further: Any) -> None:
    """Keep a look as JSON beside what further is to be known of it."""
    write_text(path, json.dumps({**look.as_dict(), **further}))


def read_look(path: Path) -> tuple[Look, dict[str, Any]]:
    """A kept look, and all that its file holds.

    Raises:
        ReelignError: there is no such file, or it holds no look.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Look.from_dict(kept), kept
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReelignError(
            f"The look {path} cannot be read: {error!r}.", "Begin the run anew under another name, run=NAME."
        ) from error


def _in_one(dimensions: Mapping[str, Tensor]) -> Tensor:
    return dimensions[OVERALL] if OVERALL in dimensions else torch.stack(list(dimensions.values())).mean(dim=0)
