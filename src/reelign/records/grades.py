"""Judgements of single videos: votes on grades, and which videos people want."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reelign.records.answers import GRADES, Kind
from reelign.records.preferences import Label, Labels
from reelign.records.schema import Judgement

TIE = "tie"
NO_MAJORITY = "no majority"

DESIRABLE = {"good": True, "normal": True, "bad": False}
"""IPO's rule (Yang et al. 2025, arXiv:2502.02088): Good and Normal are desirable, Bad is not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GradeVote:
    """What the judges of one video say together on one dimension."""

    video: str
    dimension: str
    kind: Kind
    verdict: str
    """The grade with more than half of the voices, or 'tie'."""
    mean: float
    """Of the grades' places from the worst, 0 to 1."""
    consistency: float
    """Share of the voices with the most frequent grade."""
    count: int
    """How many judges."""


def grade_votes(judgements: Iterable[Judgement]) -> list[GradeVote]:
    """One vote per video, dimension and kind, ordered by them; each judge has one voice, the latest."""
    found = []
    for (video, dimension, kind), counter in sorted(_voices(judgements).items()):
        grades = GRADES[kind]
        verdict, most = counter.most_common(1)[0]
        total = counter.total()
        mean = sum(grades.index(grade) * number for grade, number in counter.items()) / total / (len(grades) - 1)
        found.append(
            GradeVote(
                video=video,
                dimension=dimension,
                kind=kind,
                verdict=verdict if 2 * most > total else TIE,
                mean=mean,
                consistency=most / total,
                count=total,
            )
        )
    return found


def desirable(votes: Iterable[GradeVote], prompts: Mapping[str, int], *, dimension: str = "overall") -> Labels:
    """Labels for KTO from votes on three levels, by IPO's rule; without a majority there is none.

    Args:
        votes: from `grade_votes`; other kinds and dimensions are not looked at.
        prompts: video id to its prompt; votes on other videos are not looked at.
        dimension: which decides.
    """
    labels, left_out = [], 0
    for vote in votes:
        if vote.kind != "three_level" or vote.dimension != dimension or vote.video not in prompts:
            continue
        if vote.verdict == TIE:
            left_out += 1
        else:
            wanted = DESIRABLE[vote.verdict]
            labels.append(Label(prompt_id=prompts[vote.video], video=vote.video, desirable=wanted))
    return Labels(labels=labels, left_out={NO_MAJORITY: left_out} if left_out else {})


def grade_counts(judgements: Iterable[Judgement], kind: Kind) -> dict[str, NDArray[np.float64]]:
    """By dimension (videos, grades from the worst), how many judges gave each: what `agreement` takes."""
    rows: dict[str, list[list[float]]] = {}
    for (_, dimension, own), counter in sorted(_voices(judgements).items()):
        if own == kind:
            rows.setdefault(dimension, []).append([float(counter[grade]) for grade in GRADES[kind]])
    return {dimension: np.array(counts) for dimension, counts in rows.items()}


def latest_grades(judgements: Iterable[Judgement]) -> dict[tuple[str, str, Kind], dict[str, str]]:
    """Of each video, dimension and kind: judge to the latest grade; whoever cannot say gave none."""
    latest: dict[tuple[str, str, Kind], dict[str, str]] = {}
    for judgement in judgements:
        for kind, grades in GRADES.items():
            if judgement.kind == kind and judgement.verdict in grades:
                latest.setdefault((judgement.video_a, judgement.dimension, kind), {})[judgement.judge] = (
                    judgement.verdict
                )
    return latest


def _voices(judgements: Iterable[Judgement]) -> dict[tuple[str, str, Kind], Counter[str]]:
    return {key: Counter(own.values()) for key, own in latest_grades(judgements).items()}
