"""Means of per-pair numbers with their interval over prompts."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.records.bootstrap import Interval, paired_bootstrap

NAN = float("nan")
Mean = Callable[[Tensor, Tensor], Interval]
"""Of (pairs,) numbers and their prompts, with its interval."""


def interval(values: Tensor, clusters: Tensor, *, resamples: int, level: float, seed: int) -> Interval:
    """The mean of (pairs,) numbers with its bootstrap interval over prompts; NaN counts on neither.

    One prompt alone gives a mean without ends, and none gives NaN: a breakdown may be that fine.
    """
    known = values.isfinite()
    if not known.any():
        return Interval(NAN, NAN, NAN)
    if len(clusters[known].unique()) < 2:
        return Interval(float(values[known].double().mean()), NAN, NAN)
    chance = generator_from(seed, "feedback")
    return paired_bootstrap(values, clusters, resamples=resamples, level=level, generator=chance)
