"""Pair policies, scores, standings and labels on cases worked by hand."""

from __future__ import annotations

import math

import pytest

from records.test_preferences import group, vote
from reelign.errors import ReelignError
from reelign.records import (
    Label,
    PairPolicy,
    ground_truth_pairs,
    labels,
    preferences,
    scored_preferences,
    standings,
)
from reelign.records.pair_policies import DISAGREEMENT, NO_PREFERENCE, NO_REAL_VIDEO, SMALL_MARGIN, TOO_FEW

# a beats b on both, a beats c on VQ alone, b and c disagree by dimension.
VOTES = [
    vote("a", "b", "a", "VQ"),
    vote("a", "b", "a", "MQ"),
    vote("a", "c", "a", "VQ"),
    vote("a", "c", "tie", "MQ"),
    vote("b", "c", "a", "VQ"),
    vote("b", "c", "b", "MQ"),
]


def chosen(policy: PairPolicy, **options: float) -> list[tuple[str, str]]:
    found = preferences([group(1, "a", "b", "c")], VOTES, pairs=policy, **options)  # type: ignore[arg-type]
    return [(pair.chosen, pair.rejected) for pair in found.pairs]


def test_agreed_pairs_are_better_on_every_dimension() -> None:
    found = preferences([group(1, "a", "b", "c")], VOTES, pairs="agreed")
    assert [(pair.chosen, pair.rejected, pair.margin) for pair in found.pairs] == [("a", "b", 1.0)]
    assert found.left_out == {NO_PREFERENCE: 1, DISAGREEMENT: 1}


def test_each_dimension_has_its_own_pairs() -> None:
    found = preferences([group(1, "a", "b", "c")], VOTES, pairs="per_dimension")
    got = [(pair.chosen, pair.rejected, pair.margins) for pair in found.pairs]
    assert got == [
        ("a", "b", {"MQ": 1.0}),
        ("a", "b", {"VQ": 1.0}),
        ("a", "c", {"VQ": 1.0}),
        ("c", "b", {"MQ": 1.0}),
        ("b", "c", {"VQ": 1.0}),
    ]
    assert found.left_out == {NO_PREFERENCE: 1}


def test_a_threshold_leaves_clear_pairs() -> None:
    assert chosen("all") == [("a", "b"), ("a", "c")]
    assert chosen("all", min_margin=0.6) == [("a", "b")]
    found = preferences([group(1, "a", "b", "c")], VOTES, pairs="best_worst", min_margin=0.9)
    assert (found.pairs, found.left_out) == ([], {SMALL_MARGIN: 1})


def test_standings_are_mean_margins_in_the_groups_order() -> None:
    found = standings([group(1, "c", "b", "a"), group(2, "x", "y")], VOTES)
    assert [(each.video, each.score) for each in found] == [("c", -0.25), ("b", -0.5), ("a", 0.75)]
    on_motion = standings([group(1, "a", "b", "c")], VOTES, weights={"MQ": 1.0})
    assert [each.score for each in on_motion] == [0.5, -1.0, 0.5]


def test_labels_follow_the_sign_and_leave_out_the_indifferent() -> None:
    found = standings([group(1, "a", "b", "c")], VOTES)
    assert labels(found).labels == [
        Label(prompt_id=1, video="a", desirable=True),
        Label(prompt_id=1, video="b", desirable=False),
        Label(prompt_id=1, video="c", desirable=False),
    ]
    sure = labels(found, min_margin=0.3)
    assert [each.video for each in sure.labels] == ["a", "b"]
    assert sure.left_out == {NO_PREFERENCE: 1}
    tied = standings([group(1, "a", "b")], [vote("a", "b", "tie")])
    assert labels(tied).left_out == {NO_PREFERENCE: 2}


SCORES = {
    "a": {"VQ": 3.0, "MQ": 0.0},
    "b": {"VQ": 1.0, "MQ": 1.0},
    "c": {"VQ": 1.0, "MQ": 0.9},
    "d": {"VQ": 0.0, "MQ": 0.0},
}


def test_scores_make_pairs_with_their_differences() -> None:
    groups = [group(1, *"abcd"), group(2, "x", "y")]
    found = scored_preferences(groups, SCORES)
    (pair,) = found.pairs
    assert (pair.chosen, pair.rejected, pair.margin) == ("a", "d", 1.5)
    assert pair.margins == {"MQ": 0.0, "VQ": 3.0}
    assert found.left_out == {TOO_FEW: 1}
    everything = scored_preferences([group(1, *"abcd")], SCORES, pairs="all")
    assert [(each.chosen, each.rejected, each.margin) for each in everything.pairs] == [
        ("a", "b", 0.5),
        ("a", "c", 0.55),
        ("a", "d", 1.5),
        ("b", "c", 0.05),
        ("b", "d", 1.0),
        ("c", "d", 0.95),
    ]


def test_scores_within_the_tie_band_and_equal_ones_are_no_preference() -> None:
    found = scored_preferences([group(1, "b", "c")], SCORES, tie_band=0.2)
    assert (found.pairs, found.left_out) == ([], {NO_PREFERENCE: 1})
    equal = {name: {"VQ": 0.5} for name in "abcd"}
    policies: tuple[PairPolicy, ...] = ("best_worst", "all", "agreed", "per_dimension")
    for policy in policies:
        assert scored_preferences([group(1, *"abcd")], equal, pairs=policy).pairs == []


def test_scores_agree_and_weigh_as_votes_do() -> None:
    agreed = scored_preferences([group(1, *"abcd")], SCORES, pairs="agreed")
    assert [(each.chosen, each.rejected) for each in agreed.pairs] == [("b", "d"), ("c", "d")]
    (pair,) = scored_preferences([group(1, *"abcd")], SCORES, weights={"MQ": 1.0}).pairs
    assert (pair.chosen, pair.rejected) == ("b", "a")
    with pytest.raises(ReelignError, match="Did you mean 'MQ'"):
        scored_preferences([group(1, *"abcd")], SCORES, weights={"MQQ": 1.0})


def test_a_score_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ReelignError, match="a score of a or b is not finite"):
        scored_preferences([group(1, "a", "b")], {"a": {"VQ": math.nan}, "b": {"VQ": 1.0}})


def test_a_real_video_is_chosen_against_every_candidate() -> None:
    found = ground_truth_pairs([group(1, "a", "b"), group(2, "c")], {1: ["real"]})
    assert [(pair.prompt_id, pair.chosen, pair.rejected) for pair in found.pairs] == [
        (1, "real", "a"),
        (1, "real", "b"),
    ]
    assert found.left_out == {NO_REAL_VIDEO: 1}
