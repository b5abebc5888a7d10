"""Several judgements of one pair become one vote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reelign.records.schema import Judgement, Verdict

_MIRRORED: dict[str, Verdict] = {"a": "b", "b": "a", "tie": "tie"}


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
    """How many judgements."""


def majority(judgements: Iterable[Judgement]) -> list[Vote]:
    """One vote per unordered pair and dimension, ordered by both.

    A verdict wins with more than half of the judgements. Without such a majority the vote is a tie: judges who
    contradict each other have no preference to train on.
    """
    counts: dict[tuple[str, str, str], Counter[Verdict]] = {}
    for judgement in judgements:
        mirrored = _MIRRORED[judgement.verdict]
        a, b, verdict = judgement.video_a, judgement.video_b, _MIRRORED[mirrored]
        if a > b:
            a, b, verdict = b, a, mirrored
        counts.setdefault((a, b, judgement.dimension), Counter())[verdict] += 1
    return [_vote(key, counts[key]) for key in sorted(counts)]


def _vote(key: tuple[str, str, str], counter: Counter[Verdict]) -> Vote:
    (verdict, most), total = counter.most_common(1)[0], counter.total()
    return Vote(
        video_a=key[0],
        video_b=key[1],
        dimension=key[2],
        verdict=verdict if 2 * most > total else "tie",
        consistency=most / total,
        count=total,
    )
