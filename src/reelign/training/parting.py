"""When the reward that training maximises and those that it does not see part ways: alarms from looks alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from reelign.training.looks import Look, gain

Band = tuple[float, float]
"""Least and most of a measure, as shares of the base's."""
RESAMPLES = 4000
"""More than the usual 2000: what is asked is far out in the tails."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One thing that is wrong at a look."""

    kind: Literal["parted", "fallen", "below_base", "band", "unscored"]
    name: str
    """The reward or measure that gave it."""
    what: str
    """In words, to stand after "at step N"."""


def alarms(
    now: Look, best: Look, base: Look, *, level: float, looks: int, bands: Mapping[str, Band | None]
) -> list[Alarm]:
    """What is wrong with the policy at a look. Differences are paired by prompt and seed, intervals are of the
    bootstrap over prompts.

        parted      the training reward is up and a held-out reward, or a dimension of it, down against the best look
        fallen      the same where training has no score of its own: a held-out reward is down against the best look
        below_base  a held-out reward or dimension is down against the base, whatever training's does
        band        a measure is outside its share of the base's
        unscored    fewer than half of the videos that the base has scores of could be made and scored

    The best of many looks is in part lucky, and a policy that stays as good falls short of it; so the first three ask
    for 1 - (1 - level) / (looks · rewards), Bonferroni's share of the error for each look and each reward or dimension.

    Args:
        best: the look with the highest `standing` so far.
        base: of the model before training.
        level: coverage of all intervals together, in (0, 1).
        looks: how many there were after the base's, this one included.
        bands: of the measures in `Look.proxies`; None watches none.
    """
    found = _unscored(now, base)
    if found:
        return found
    seen, at_best, at_base = (look.held_out_dimensions for look in (now, best, base))
    each = 1 - (1 - level) / (max(1, looks) * max(1, len(seen)))
    training, before = now.training, best.training
    rise = None if training is None or before is None else _interval(training, before, now, each)
    against = f"against step {best.step}, the best for what training does not see"
    for name, scores in seen.items():
        fall = _interval(scores, at_best[name], now, each)
        if rise is None and fall[1] < 0:
            found.append(Alarm("fallen", name, f"{name} is down by {_span(fall)} {against}"))
        elif rise is not None and rise[0] > 0 > fall[1]:
            what = f"the training reward is up by {_span(rise)} and {name} down by {_span(fall)} {against}"
            found.append(Alarm("parted", name, what))
        low, high = _interval(scores, at_base[name], now, each)
        if high < 0:
            found.append(Alarm("below_base", name, f"{name} is below the base's by {_span((low, high))}"))
    return found + _outside(now, base, level, bands)


def standing(look: Look, base: Look) -> float:
    """How good a look is by what training does not see: the mean gain over the base in held-out rewards, each in
    standard deviations of the base's own scores; 0 without a held-out reward."""
    gains = []
    for name, scores in look.held_out.items():
        before = base.held_out[name]
        spread = float(before[before.isfinite()].std(correction=0))
        gains.append(float((scores - before).nanmean()) / (spread or 1.0))
    return sum(gains) / len(gains) if gains else 0.0


def _outside(now: Look, base: Look, level: float, bands: Mapping[str, Band | None]) -> list[Alarm]:
    """Measures that stand outside their bands beyond chance."""
    found = []
    for name, values in now.proxies.items():
        band, before = bands.get(name), base.proxies[name]
        if band is None:
            continue
        mean = float(before.nanmean())
        # now < low · base exactly where now - low · base < 0, which is paired and has an interval of its own.
        below = _interval(values, band[0] * before, now, level)[1] < 0
        above = math.isfinite(band[1]) and _interval(values, band[1] * before, now, level)[0] > 0
        if below or above:
            share = float(values.nanmean()) / mean if mean else math.inf
            found.append(
                Alarm(
                    "band",
                    name,
                    f"{name} is {share:.2f} times the base's, {'below' if below else 'above'} its band "
                    f"{band[0]:g} to {band[1]:g}",
                )
            )
    return found


def _unscored(now: Look, base: Look) -> list[Alarm]:
    found = []
    for name, values in now.scores.items():
        wanted = base.scores[name].isfinite()
        there = int((values.isfinite() & wanted).sum())
        if there < wanted.sum() / 2 or len(set(now.clusters[values.isfinite() & wanted].tolist())) < 2:
            found.append(Alarm("unscored", name, f"{there} of {int(wanted.sum())} videos have a score of {name}"))
    return found


def _interval(now: Tensor, before: Tensor, look: Look, level: float) -> tuple[float, float]:
    found = gain(now, before, look.clusters, level=level, resamples=RESAMPLES)
    return found.low, found.high


def _span(interval: tuple[float, float]) -> str:
    low, high = sorted((abs(interval[0]), abs(interval[1])))
    return f"{low:.3g} to {high:.3g}"
