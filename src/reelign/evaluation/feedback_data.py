"""What people said of videos, in one shape, and how a file of preferences says it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from reelign.errors import ReelignError
from reelign.records import Compared, FileRows, read_rows
from reelign.records.pair_files import NOT_JUDGED

OVERALL = "overall"


class Candidate(NamedTuple):
    """A video file and the prompt that it was made for."""

    video: Path
    prompt: str


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedPair:
    """Two videos of one prompt and what people say of them."""

    first: Candidate
    second: Candidate
    verdicts: Mapping[str, int]
    """Dimension -> 1 the first is better, -1 the second, 0 a tie."""
    models: tuple[str, str] = ("", "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The best of N candidates of one prompt, as one person chose on one dimension."""

    candidates: tuple[Candidate, ...]
    best: int
    dimension: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Feedback:
    """All that people said, and what of it cannot be compared with a score."""

    source: Path
    format: str
    """Name of the layout; `workspace` of a workspace's judgements."""
    pairs: Sequence[JudgedPair]
    shown: Sequence[JudgedPair] = ()
    """Pairs as they were shown, the left or first video first; () where the order tells who is better."""
    choices: Sequence[Choice] = ()
    ratings: Mapping[str, Mapping[Candidate, float]] = field(default_factory=dict)
    """Dimension -> mean rating of each video by itself, on one scale for the dimension."""
    grades: Mapping[str, Mapping[Candidate, str]] = field(default_factory=dict)
    """Dimension -> what most say of each video by itself: 'good', 'normal' or 'bad'."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """By reason."""

    @property
    def dimensions(self) -> list[str]:
        """In the order in which they come up."""
        judged = [name for pair in self.pairs for name in pair.verdicts]
        return list(dict.fromkeys([*judged, *(choice.dimension for choice in self.choices), *self.ratings]))

    @property
    def candidates(self) -> list[Candidate]:
        """Each once."""
        sides = [side for pair in (*self.pairs, *self.shown) for side in (pair.first, pair.second)]
        chosen = [each for choice in self.choices for each in choice.candidates]
        return list(dict.fromkeys([*sides, *chosen, *(each for own in self.ratings.values() for each in own)]))


def file_feedback(path: str | Path, format: str | None = None, *, skip_broken: bool = False) -> Feedback:
    """What a file of preferences says, ties among it.

    Args:
        path, format: as `records.read_rows` takes them.
        skip_broken: leave rows out whose video or prompt is missing, and count them.
    Raises:
        ReelignError: as `read_rows`; a broken row unless they are skipped; or a file of labels, which compares nothing.
    """
    found = read_rows(path, format)
    if not skip_broken:
        _refuse_broken(found)
    if not found.compared:
        raise ReelignError(
            f"{found.path} compares no two videos.", "Give a file of pairs, or rate videos in a workspace: -w WORKSPACE"
        )
    pairs = [_pair(row) for row in found.compared]
    judged = [pair for pair in pairs if pair.verdicts]
    left_out = Counter(broken.reason for broken in found.broken)
    left_out[NOT_JUDGED] += len(pairs) - len(judged)
    return Feedback(
        source=found.path,
        format=found.format,
        pairs=judged,
        shown=() if _ordered_by_verdict(judged) else judged,
        ratings=_ratings(found.compared),
        left_out={reason: count for reason, count in sorted(left_out.items()) if count},
    )


def _refuse_broken(found: FileRows) -> None:
    try:
        found.refuse_broken()
    except ReelignError as error:
        raise ReelignError(error.what, f"{error.mend} Or leave such rows out, counted: skip_broken=true") from None


def _pair(row: Compared) -> JudgedPair:
    margins = row.margins if row.margin is None else {OVERALL: row.margin, **row.margins}
    return JudgedPair(
        first=Candidate(row.first, row.prompt),
        second=Candidate(row.second, row.prompt),
        verdicts={name: (margin > 0) - (margin < 0) for name, margin in margins.items()},
        models=row.models,
    )


def _ratings(rows: Iterable[Compared]) -> dict[str, dict[Candidate, float]]:
    """Of each video on each dimension; where rows of a video differ, their mean."""
    told: dict[str, dict[Candidate, list[float]]] = {}
    for row in rows:
        for name, both in row.ratings.items():
            for video, rating in zip((row.first, row.second), both, strict=True):
                if rating is not None:
                    told.setdefault(name, {}).setdefault(Candidate(video, row.prompt), []).append(rating)
    return {name: {each: math.fsum(own) / len(own) for each, own in by.items()} for name, by in told.items()}


def _ordered_by_verdict(pairs: Iterable[JudgedPair]) -> bool:
    """Whether the better video always stands first, as in files of chosen and rejected."""
    return not any(verdict < 0 for pair in pairs for verdict in pair.verdicts.values())
