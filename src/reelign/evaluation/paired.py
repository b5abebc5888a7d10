"""Base against aligned on the same prompts and seeds: paired differences, bootstrap intervals, win rates.

Videos of one prompt resemble each other, so the prompt is the unit that is resampled. Resampling single videos would
count one hard prompt as many independent findings and give intervals that are too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from reelign.errors import ReelignError

Side = Literal["base", "aligned", "both"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with the ends of its confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class WinRate:
    """How often the aligned video scores above the base video of the same prompt and seed.

    `wins`, `ties` and `losses` are counts of pairs; `rate` = (wins + ties / 2) / pairs, 0.5 where nothing changed.
    """

    wins: int
    ties: int
    losses: int
    rate: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A pair that is left out because one of its videos has no score."""

    prompt: int
    seed: int
    side: Side


@dataclass(frozen=True, slots=True)
class DimensionComparison:
    """One dimension: means over the pairs that count, the gain with its interval, the win rate."""

    base: float
    aligned: float
    gain: float
    low: float
    high: float
    significantly_down: bool
    win: WinRate


@dataclass(frozen=True, slots=True)
class Comparison:
    """The mean over dimensions (`base` … `win`), and each dimension on its own.

    `left_out` names the pairs without a score on either side; they count on neither.
    """

    base: float
    aligned: float
    gain: float
    low: float
    high: float
    win: WinRate
    dimensions: dict[str, DimensionComparison]
    prompts: int
    seeds: int
    pairs: int
    left_out: tuple[Failure, ...]
    level: float
    resamples: int

    @property
    def interval(self) -> Interval:
        """The gain in the mean reward with its interval."""
        return Interval(self.gain, self.low, self.high)

    @property
    def significantly_down(self) -> tuple[str, ...]:
        """Names of the dimensions whose whole interval lies below zero."""
        return tuple(name for name, dimension in self.dimensions.items() if dimension.significantly_down)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dictionaries, as `result.json` takes them."""
        return {**asdict(self), "left_out": [asdict(failure) for failure in self.left_out]}


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


def win_tie_loss(base: Tensor, aligned: Tensor, *, tie: float) -> WinRate:
    """Count pairs whose aligned score is above, within `tie` of, or below the base score; NaN pairs are left out."""
    if base.shape != aligned.shape or tie < 0:
        raise ReelignError(
            f"A win rate needs two score tensors of one shape and a tie band of at least 0, got "
            f"{tuple(base.shape)}, {tuple(aligned.shape)} and {tie}.",
            "Score both models on the same prompts and seeds.",
        )
    difference = (aligned.double() - base.double()).flatten()
    difference = difference[difference.isfinite()]
    wins, losses = int((difference > tie).sum()), int((difference < -tie).sum())
    total = len(difference)
    ties = total - wins - losses
    return WinRate(wins, ties, losses, (wins + ties / 2) / total if total else float("nan"))


def compare(
    base_scores: Mapping[str, Tensor],
    aligned_scores: Mapping[str, Tensor],
    *,
    tie: float = 0.0,
    resamples: int = 2000,
    level: float = 0.95,
    generator: torch.Generator,
) -> Comparison:
    """Compare two models on the same prompts and seeds.

    A pair counts only when every dimension of both its videos has a finite score: all numbers then speak of the same
    pairs, and a failed video is never taken for a bad one.

    Args:
        base_scores: dimension to (prompts, seeds) scores, higher is better; NaN where no video or score came.
        aligned_scores: the same for the aligned model.
        tie: differences up to this size are ties.
        resamples: number of bootstrap samples.
        level: coverage of the intervals.
        generator: source of the resampling; every dimension meets the same resamples.
    """
    names = _common_dimensions(base_scores, aligned_scores)
    base = torch.stack([base_scores[name].detach().cpu().double() for name in names])
    aligned = torch.stack([aligned_scores[name].detach().cpu().double() for name in names])
    left_out = _failures(base.isfinite().all(dim=0), aligned.isfinite().all(dim=0))
    kept = base.isfinite().all(dim=0) & aligned.isfinite().all(dim=0)
    base, aligned = base.masked_fill(~kept, float("nan")), aligned.masked_fill(~kept, float("nan"))
    # One seed for all makes the numbers of a dimension independent of which other dimensions stand beside it.
    seed = int(torch.randint(2**62, (1,), generator=generator))

    def one(before: Tensor, after: Tensor) -> DimensionComparison:
        interval = paired_bootstrap(
            after - before, resamples=resamples, level=level, generator=torch.Generator().manual_seed(seed)
        )
        return DimensionComparison(
            base=float(before.nanmean()),
            aligned=float(after.nanmean()),
            gain=interval.mean,
            low=interval.low,
            high=interval.high,
            significantly_down=interval.high < 0,
            win=win_tie_loss(before, after, tie=tie),
        )

    overall = one(base.mean(dim=0), aligned.mean(dim=0))
    return Comparison(
        base=overall.base,
        aligned=overall.aligned,
        gain=overall.gain,
        low=overall.low,
        high=overall.high,
        win=overall.win,
        dimensions={name: one(base[i], aligned[i]) for i, name in enumerate(names)},
        prompts=base.shape[1],
        seeds=base.shape[2],
        pairs=int(kept.sum()),
        left_out=left_out,
        level=level,
        resamples=resamples,
    )


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


def _common_dimensions(base: Mapping[str, Tensor], aligned: Mapping[str, Tensor]) -> list[str]:
    """The dimension names, after checking that both sides hold the same dimensions in one (prompts, seeds) shape."""
    if not base or set(base) != set(aligned):
        raise ReelignError(
            f"Both models must be scored on the same dimensions, got {sorted(base)} and {sorted(aligned)}.",
            "Score both with the same judge.",
        )
    shapes = {tuple(scores.shape) for scores in (*base.values(), *aligned.values())}
    if len(shapes) > 1 or len(next(iter(shapes))) != 2:
        raise ReelignError(
            f"All scores must share one (prompts, seeds) shape, got {sorted(shapes)}.",
            "Score both models on the same prompts and seeds; put NaN where a sample failed.",
        )
    return list(base)


def _failures(base_kept: Tensor, aligned_kept: Tensor) -> tuple[Failure, ...]:
    failures = []
    for prompt, seed in (~(base_kept & aligned_kept)).nonzero().tolist():
        lost = (not base_kept[prompt, seed], not aligned_kept[prompt, seed])
        side: Side = "both" if all(lost) else "base" if lost[0] else "aligned"
        failures.append(Failure(prompt, seed, side))
    return tuple(failures)
