"""Grades of single videos: votes, agreement, and IPO's rule."""

from __future__ import annotations

import pytest

from reelign.records import Judgement, Label
from reelign.records.answers import Kind
from reelign.records.grades import NO_MAJORITY, desirable, grade_counts, grade_votes


def grades(video: str, *verdicts: str, kind: Kind = "three_level", dimension: str = "overall") -> list[Judgement]:
    return [
        Judgement(kind=kind, video_a=video, dimension=dimension, verdict=verdict, judge=f"j{number}", judge_version="1")
        for number, verdict in enumerate(verdicts)
    ]


@pytest.mark.parametrize(
    ("verdicts", "verdict", "consistency", "mean"),
    [
        (["good", "good", "bad"], "good", 2 / 3, 2 / 3),
        (["good", "normal", "bad"], "tie", 1 / 3, 1 / 2),
        (["normal", "bad"], "tie", 1 / 2, 1 / 4),
        (["bad", "cannot_say"], "bad", 1.0, 0.0),
    ],
)
def test_votes(verdicts: list[str], verdict: str, consistency: float, mean: float) -> None:
    (vote,) = grade_votes(grades("v", *verdicts))
    assert (vote.verdict, vote.consistency, vote.mean) == pytest.approx((verdict, consistency, mean))


def test_kinds_dimensions_and_videos_are_apart_and_a_judge_has_one_voice() -> None:
    said = [
        *grades("w", "1", kind="rating"),
        *grades("v", "bad"),
        *grades("v", "good"),
        *grades("v", "3", kind="rating"),
    ]
    found = [(vote.video, vote.kind, vote.verdict, vote.mean) for vote in grade_votes(said)]
    assert found == [("v", "rating", "3", 0.5), ("v", "three_level", "good", 1.0), ("w", "rating", "1", 0.0)]


def test_good_and_normal_are_desirable_and_bad_is_not() -> None:
    said = [
        *grades("u", "good"),
        *grades("v", "normal", "normal", "bad"),
        *grades("w", "bad"),
        *grades("x", "good", "bad"),
        *grades("y", "good", dimension="VQ"),
        *grades("z", "good"),
    ]
    found = desirable(grade_votes(said), {"u": 1, "v": 1, "w": 2, "x": 2, "y": 2})
    assert found.labels == [
        Label(prompt_id=1, video="u", desirable=True),
        Label(prompt_id=1, video="v", desirable=True),
        Label(prompt_id=2, video="w", desirable=False),
    ]
    assert found.left_out == {NO_MAJORITY: 1}


def test_counts_for_agreement_are_in_the_order_of_the_grades() -> None:
    said = [
        *grades("u", "good", "bad", "good"),
        *grades("v", "normal", dimension="VQ"),
        *grades("u", "5", kind="rating"),
    ]
    counts = grade_counts(said, "three_level")
    assert {name: table.tolist() for name, table in counts.items()} == {"overall": [[1, 0, 2]], "VQ": [[0, 1, 0]]}
