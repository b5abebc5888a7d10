"""Majority votes against cases worked by hand."""

from __future__ import annotations

import pytest

from reelign.records import Judgement, Vote, majority


def judgements(*verdicts: str, a: str = "v0", b: str = "v1", dimension: str = "VQ") -> list[Judgement]:
    return [
        Judgement(video_a=a, video_b=b, dimension=dimension, verdict=verdict, judge=f"j{number}", judge_version="1")
        for number, verdict in enumerate(verdicts)
    ]


@pytest.mark.parametrize(
    ("verdicts", "verdict", "consistency"),
    [
        (["a"], "a", 1.0),
        (["a", "a", "b"], "a", 2 / 3),
        (["tie", "b", "b"], "b", 2 / 3),
        (["tie", "tie", "a"], "tie", 2 / 3),
        (["a", "b", "tie"], "tie", 1 / 3),
        (["a", "b"], "tie", 1 / 2),
        (["a", "a", "b", "tie"], "tie", 1 / 2),  # half is no majority
    ],
)
def test_one_pair(verdicts: list[str], verdict: str, consistency: float) -> None:
    (vote,) = majority(judgements(*verdicts))
    assert (vote.verdict, vote.count) == (verdict, len(verdicts))
    assert vote.consistency == pytest.approx(consistency)


def test_the_order_shown_does_not_matter() -> None:
    (vote,) = majority([*judgements("a", "a"), *judgements("b", a="v1", b="v0")])
    assert vote == Vote(video_a="v0", video_b="v1", dimension="VQ", verdict="a", consistency=1.0, count=3)
    (vote,) = majority(judgements("a", a="v1", b="v0"))
    assert (vote.video_a, vote.verdict) == ("v0", "b")


def test_pairs_and_dimensions_are_voted_on_apart_and_in_order() -> None:
    votes = majority(
        [*judgements("b", dimension="VQ"), *judgements("a", dimension="MQ"), *judgements("tie", a="u0", b="u1")]
    )
    assert [(vote.video_a, vote.dimension, vote.verdict) for vote in votes] == [
        ("u0", "VQ", "tie"),
        ("v0", "MQ", "a"),
        ("v0", "VQ", "b"),
    ]


def test_no_judgements_no_votes() -> None:
    assert majority([]) == []
