"""Majority votes against cases worked by hand."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    turned = judgements("a", "tie", "b", a="v1", b="v0")[2:]  # by a third judge
    (vote,) = majority([*judgements("a", "a"), *turned])
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


def test_a_judge_has_one_voice_the_latest() -> None:
    (vote,) = majority([*judgements("a", "b"), *judgements("b")])
    assert (vote.verdict, vote.count, vote.consistency) == ("b", 2, 1.0)


def test_who_cannot_say_has_no_voice() -> None:
    (vote,) = majority(judgements("a", "cannot_say", "a"))
    assert (vote.verdict, vote.count, vote.consistency) == ("a", 2, 1.0)
    assert majority(judgements("cannot_say")) == []


def test_strength_is_the_mean_feeling() -> None:
    said = judgements("a", "b", "tie", "a")
    for judgement, strength in zip(said, ("clearly", "slightly", None, "slightly"), strict=True):
        judgement.strength = strength
    (vote,) = majority(said)
    assert vote.strength == pytest.approx((1 - 0.5 + 0 + 0.5) / 4)
    (turned,) = majority(judgements("b", a="v1", b="v0"))
    assert turned.strength == 1.0


@pytest.mark.parametrize(
    ("said", "margin"),
    [
        ([("a", None), ("a", None), ("b", None)], 1.0),  # nobody was asked how much
        ([("a", "clearly"), ("a", "slightly"), ("tie", None)], 0.5),
        ([("b", "slightly"), ("b", "slightly"), ("b", "slightly")], -0.5),
        ([("a", "slightly"), ("a", "slightly"), ("b", "clearly")], 0.0),
        ([("b", "slightly"), ("b", "slightly"), ("b", "slightly"), ("a", "clearly"), ("a", "clearly")], 0.0),
        ([("a", "clearly"), ("b", "slightly")], 0.0),  # no majority
    ],
)
def test_the_margin_is_what_judges_felt_and_never_against_the_verdict(
    said: list[tuple[str, str | None]], margin: float
) -> None:
    made = judgements(*(verdict for verdict, _ in said))
    for judgement, (_, strength) in zip(made, said, strict=True):
        judgement.strength = strength
    (vote,) = majority(made)
    assert vote.margin == pytest.approx(margin)
    assert Vote(video_a="a", video_b="b", dimension="VQ", verdict="b", consistency=1.0, count=1).margin == -1.0


def test_the_best_of_n_beats_each_of_the_others() -> None:
    best = Judgement(
        kind="best_of",
        video_a="v2",
        candidates=["v2", "v0", "v1"],
        verdict="1",
        dimension="VQ",
        judge="j9",
        judge_version="1",
    )
    grade = Judgement(kind="rating", video_a="v2", verdict="5", dimension="VQ", judge="j9", judge_version="1")
    votes = majority([best, grade, *judgements("b")])
    assert [(vote.video_a, vote.video_b, vote.verdict, vote.count) for vote in votes] == [
        ("v0", "v1", "tie", 2),
        ("v0", "v2", "a", 1),
    ]


verdicts = st.sampled_from(["a", "b", "tie", "cannot_say"])


@given(st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from("xyz"), verdicts, st.sampled_from("klmn"))))
def test_counting_in_columns_is_counting_one_by_one(said: list[tuple[str, str, str, str]]) -> None:
    rows = [
        Judgement(video_a=a, video_b=b, dimension="VQ", verdict=verdict, judge=judge, judge_version="1")
        for a, b, verdict, judge in said
    ]
    voices: dict[tuple[str, str], dict[str, str]] = {}
    for a, b, verdict, judge in said:
        if verdict != "cannot_say":
            voices.setdefault((a, b), {})[judge] = verdict
    expected = {}
    for pair, own in voices.items():
        verdict, most = Counter(own.values()).most_common(1)[0]
        expected[pair] = (verdict if 2 * most > len(own) else "tie", len(own), most / len(own))
    found = {(vote.video_a, vote.video_b): (vote.verdict, vote.count, vote.consistency) for vote in majority(rows)}
    assert found == expected
