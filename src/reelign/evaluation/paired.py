"""Base against aligned on the same prompts and seeds: the gain by dimension with its interval, and win rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.records.bootstrap import Interval, paired_bootstrap

Side = Literal["base", "aligned", "both"]


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
    base, aligned = (
        torch.stack([scores[name].detach().cpu().double() for name in names])
        for scores in (base_scores, aligned_scores)
    )
    left_out = _failures(base.isfinite().all(dim=0), aligned.isfinite().all(dim=0))
    kept = (base.isfinite() & aligned.isfinite()).all(dim=0)
    base, aligned = base.masked_fill(~kept, float("nan")), aligned.masked_fill(~kept, float("nan"))
    # One seed for all makes the numbers of a dimension independent of which other dimensions stand beside it.
    seed = int(torch.randint(2**62, (1,), generator=generator))

    def one(before: Tensor, after: Tensor) -> DimensionComparison:
        chance = torch.Generator().manual_seed(seed)
        interval = paired_bootstrap(after - before, resamples=resamples, level=level, generator=chance)
        return _dimension(before, after, interval, tie)

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


def _dimension(before: Tensor, after: Tensor, interval: Interval, tie: float) -> DimensionComparison:
    return DimensionComparison(
        base=float(before.nanmean()),
        aligned=float(after.nanmean()),
        gain=interval.mean,
        low=interval.low,
        high=interval.high,
        significantly_down=interval.high < 0,
        win=win_tie_loss(before, after, tie=tie),
    )


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
