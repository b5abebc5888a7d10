"""Comparisons as columns of numbers: a million judgements are counted in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reelign.records.answers import CANNOT_SAY

if TYPE_CHECKING:
    from reelign.records.schema import Judgement

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]

VALUES = {"a": 1.0, "b": -1.0, "tie": 0.0, CANNOT_SAY: np.nan}
SLIGHTLY = 0.5
"""How much a slightly better video is better; clearly, or without a strength, is 1."""

FIELDS = ("video_a", "video_b", "dimension", "judge", "verdict", "strength", "shown_left", "kind", "candidates")
"""What of a judgement is looked at, and in which order."""


@dataclass(frozen=True, kw_only=True)
class Items:
    """What was asked, each pair of videos on each dimension once, and the voices on it."""

    first: Codes
    second: Codes
    dimension: Codes
    """Of each item, in the order of the names."""
    item: Codes
    judge: Codes
    value: Floats
    graded: NDArray[np.bool_]
    """Of each voice."""

    @property
    def count(self) -> int:
        return len(self.first)


@dataclass(frozen=True, kw_only=True)
class Comparisons:
    """One row per judge, pair and dimension, in the order they were judged; codes are places in the sorted names."""

    videos: list[str]
    dimensions: list[str]
    judges: list[str]
    first: Codes
    second: Codes
    """The two videos, whichever way they were shown; `first` < `second`."""
    dimension: Codes
    judge: Codes
    value: Floats
    """In [-1, 1], positive where the first video is better; NaN where the judge cannot say."""
    first_left: NDArray[np.bool_]
    """Whether the first video stood on the left."""
    side_by_side: NDArray[np.bool_]
    """False for the pairs that follow from a best-of-N."""
    graded: NDArray[np.bool_]
    """Whether the judge said how much better."""

    @classmethod
    def of(cls, judgements: Iterable[Judgement]) -> Comparisons:
        """From judgements; those of single videos are left out."""
        return cls.from_rows([tuple(getattr(each, name) for name in FIELDS) for each in judgements])

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[Any]]) -> Comparisons:
        """From tuples of `FIELDS`; the best of N counts as better than each of the others."""
        pairs = [row for row in rows if row[1] is not None]
        ranked = [pair for row in rows if row[7] == "best_of" for pair in _expanded(row)]
        columns = list(zip(*chain(pairs, ranked), strict=True)) or [()] * len(FIELDS)
        video_a, video_b, dimension, judge, verdict, strength, shown_left = columns[:7]
        videos, both = _coded((*video_a, *video_b))
        a, b = both[: len(video_a)], both[len(video_a) :]
        dimensions, dimension_code = _coded(dimension)
        judges, judge_code = _coded(judge)
        value = np.array([VALUES[each] for each in verdict], dtype=np.float64)
        value = np.where(np.array([each == "slightly" for each in strength], dtype=bool), SLIGHTLY * value, value)
        a_left = np.array([each == "a" for each in shown_left], dtype=bool)
        return cls(
            videos=videos,
            dimensions=dimensions,
            judges=judges,
            first=np.minimum(a, b),
            second=np.maximum(a, b),
            dimension=dimension_code,
            judge=judge_code,
            value=np.where(a < b, value, -value),
            first_left=np.where(a < b, a_left, ~a_left),
            side_by_side=np.arange(len(a)) < len(pairs),
            graded=np.array([each is not None for each in strength], dtype=bool),
        )

    def names(self, codes: Codes) -> list[str]:
        """Ids of the videos."""
        return [self.videos[code] for code in codes.tolist()]

    def item_codes(self) -> Codes:
        """One number per pair and dimension, ordered as their names are."""
        return (self.first * len(self.videos) + self.second) * len(self.dimensions) + self.dimension

    def items(self) -> Items:
        """The items with at least one voice, ordered by videos and dimension. Each judge's latest voice counts."""
        voices = np.flatnonzero(~np.isnan(self.value))
        codes = self.item_codes()[voices]
        # Of equal ones, unique gives the first: of the voices in reverse, that is the latest.
        _, latest = np.unique((codes * len(self.judges) + self.judge[voices])[::-1], return_index=True)
        voices = np.sort(voices[::-1][latest])
        item_code, first_voice, item = np.unique(self.item_codes()[voices], return_index=True, return_inverse=True)
        at = voices[first_voice]
        assert len(item_code) == len(at)
        return Items(
            first=self.first[at],
            second=self.second[at],
            dimension=self.dimension[at],
            item=item,
            judge=self.judge[voices],
            value=self.value[voices],
            graded=self.graded[voices],
        )


def _expanded(row: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """A best-of-N as pairs of the best with each of the others; the shown order stays that of the candidates."""
    _, _, dimension, judge, verdict, *_, candidates = row
    if verdict == CANNOT_SAY:
        return
    best = int(verdict)
    for place, other in enumerate(candidates):
        if place != best:
            left = "a" if best < place else "b"
            yield candidates[best], other, dimension, judge, "a", None, left, "best_of", None


def _coded(names: Sequence[str]) -> tuple[list[str], Codes]:
    """The distinct names, sorted, and each name's place among them."""
    distinct = sorted(set(names))
    place = {name: index for index, name in enumerate(distinct)}
    return distinct, np.fromiter((place[name] for name in names), dtype=np.int64, count=len(names))
