"""Several judgements of one pair become one vote."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from reelign.records.columns import Comparisons

if TYPE_CHECKING:
    from reelign.records.answers import Verdict
    from reelign.records.schema import Judgement

_VERDICTS: tuple[Verdict, ...] = ("b", "tie", "a")
"""By the sign of the value, from -1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Vote:
    """What the judges of one pair say together on one dimension; `video_a` < `video_b`, however they were shown."""

    video_a: str
    video_b: str
    dimension: str
    verdict: Verdict
    consistency: float
    """Share of the judgements that gave the most frequent verdict, in (0, 1]."""
    count: int
    """How many judges."""
    strength: float = field(default=0.0, compare=False)
    """Mean feeling of the judges in [-1, 1]: 1 where all find a clearly better, ±0.5 is slightly, 0 a tie."""
    graded: bool = field(default=False, compare=False)
    """Whether any judge said how much better, so that `strength` tells more than how many agree."""

    @property
    def margin(self) -> float:
        """Of a over b in [-1, 1]: the mean feeling where judges gave theirs, but never against the verdict; else ±1."""
        sign = {"a": 1.0, "b": -1.0, "tie": 0.0}[self.verdict]
        return sign * max(0.0, sign * self.strength) if self.graded else sign


def majority(judgements: Iterable[Judgement]) -> list[Vote]:
    """One vote per unordered pair and dimension, ordered by both.

    A verdict wins with more than half of the judges. Without such a majority the vote is a tie: judges who contradict
    each other have no preference to train on. Each judge has one voice, the latest; whoever cannot say has none. The
    best of N counts as better than each of the others. Judgements of single videos are not looked at.
    """
    return votes(Comparisons.of(judgements))


def votes(comparisons: Comparisons) -> list[Vote]:
    """`majority` of what is in columns already."""
    items = comparisons.items()
    signs = np.sign(items.value).astype(np.int64)
    counts = np.bincount(items.item * 3 + signs + 1, minlength=3 * items.count).reshape(-1, 3)
    total, most = counts.sum(axis=1), counts.max(axis=1)
    verdict = np.where(2 * most > total, counts.argmax(axis=1), 1)
    strength = np.bincount(items.item, weights=items.value, minlength=items.count) / total
    graded = np.bincount(items.item, weights=items.graded, minlength=items.count) > 0
    named = zip(
        comparisons.names(items.first),
        comparisons.names(items.second),
        [comparisons.dimensions[code] for code in items.dimension.tolist()],
        verdict.tolist(),
        (most / total).tolist(),
        total.tolist(),
        strength.tolist(),
        graded.tolist(),
        strict=True,
    )
    return [
        Vote(
            video_a=a,
            video_b=b,
            dimension=dimension,
            verdict=_VERDICTS[outcome],
            consistency=share,
            count=judges,
            strength=mean,
            graded=told,
        )
        for a, b, dimension, outcome, share, judges, mean, told in named
    ]
