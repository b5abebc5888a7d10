"""The paired bootstrap: how far the mean difference of two models on the same prompts can be trusted.

Videos of one prompt resemble each other, so the prompt is the unit that is resampled. Resampling single videos would
count one hard prompt as many independent findings and give intervals that are too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reelign.errors import ReelignError


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with the ends of its confidence interval."""

    mean: float
    low: float
    high: float


def paired_bootstrap(
    difference: Tensor,
    clusters: Tensor | None = None,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    generator: torch.Generator,
) -> Interval:
    """Percentile bootstrap of the mean paired difference, over prompts (Efron & Tibshirani 1993, ch. 13).

    Prompts are drawn with replacement, each with all its videos; the statistic is the mean over the videos drawn.
    NaN marks a failed pair and is left out. The interval depends on the differences and the generator alone, not on
    the order in which prompts stand.

    Args:
        difference: aligned score minus base score, (prompts, seeds), or (videos,) with `clusters`.
        clusters: (videos,) integer id of the prompt of each difference.
        resamples: number of bootstrap samples.
        level: coverage of the interval, in (0, 1).
        generator: source of the resampling, on the CPU.
    """
    if not 0 < level < 1 or resamples < 1:
        raise ReelignError(
            f"A bootstrap needs a level in (0, 1) and at least one resample, got {level} and {resamples}.",
            "Use the defaults, level=0.95 and resamples=2000.",
        )
    sums, counts = _cluster_sums(difference, clusters)
    if len(sums) < 2:
        raise ReelignError(
            f"An interval over prompts needs at least 2 prompts with scores, got {len(sums)}.",
            "Evaluate on more prompts; more seeds of one prompt do not tell how prompts differ.",
        )
    picked = torch.randint(len(sums), (resamples, len(sums)), generator=generator)
    means = sums[picked].sum(dim=1) / counts[picked].sum(dim=1)
    tail = (1 - level) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Interval(float(sums.sum() / counts.sum()), low, high)


def _cluster_sums(difference: Tensor, clusters: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sum and number of the finite differences of each prompt, fp64, in an order the input's does not change."""
    if clusters is None:
        if difference.ndim != 2:
            raise ReelignError(
                f"Differences must be (prompts, seeds), got {tuple(difference.shape)}.",
                "Give flat differences together with the prompt id of each as `clusters`.",
            )
        clusters = torch.arange(len(difference)).repeat_interleave(difference.shape[1])
    elif difference.ndim != 1 or clusters.shape != difference.shape:
        raise ReelignError(
            f"Flat differences and their clusters must have one shape (videos,), got {tuple(difference.shape)} and "
            f"{tuple(clusters.shape)}.",
            "Give one prompt id for each difference.",
        )
    values, clusters = difference.detach().cpu().double().flatten(), clusters.cpu()
    clusters, values = clusters[values.isfinite()], values[values.isfinite()]
    ids, index = torch.unique(clusters, return_inverse=True)
    sums = torch.zeros(len(ids), dtype=torch.float64).index_add_(0, index, values)
    counts = torch.zeros(len(ids), dtype=torch.float64).index_add_(0, index, torch.ones_like(values))
    order = sums.argsort(stable=True)
    order = order[counts[order].argsort(stable=True)]
    return sums[order], counts[order]
