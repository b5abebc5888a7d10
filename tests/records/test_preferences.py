"""Preferences against cases worked by hand, and what must hold for any votes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelign.errors import ReelignError
from reelign.records import Group, Prompt, Verdict, Video, Vote, preferences
from reelign.records.pair_policies import NO_PREFERENCE, NOT_LINKED, TOO_FEW
from reelign.records.preferences import ACROSS_GROUPS


def group(prompt_id: int, *names: str) -> Group:
    prompt = Prompt(text=f"prompt {prompt_id}", split="train")
    prompt.id = prompt_id
    size: dict[str, Any] = {"fps": 8.0, "num_frames": 9, "height": 32, "width": 32}
    videos = [
        Video(id=name, prompt_id=prompt_id, generator="g", seed=0, index=index, path=f"{name}.mp4", **size)
        for index, name in enumerate(names)
    ]
    return Group(prompt=prompt, videos=tuple(videos))


def vote(a: str, b: str, verdict: Verdict, dimension: str = "VQ") -> Vote:
    return Vote(video_a=a, video_b=b, dimension=dimension, verdict=verdict, consistency=1.0, count=3)


def test_two_candidates_three_dimensions() -> None:
    votes = [vote("a", "b", "a", "VQ"), vote("a", "b", "b", "MQ"), vote("a", "b", "a", "TA")]
    modes: tuple[Literal["best_worst", "all"], ...] = ("best_worst", "all")
    for mode in modes:
        result = preferences([group(1, "a", "b")], votes, pairs=mode)
        (pair,) = result.pairs
        assert (pair.prompt_id, pair.chosen, pair.rejected) == (1, "a", "b")
        assert pair.margin == pytest.approx(1 / 3)
        assert pair.margins == {"MQ": -1.0, "TA": 1.0, "VQ": 1.0}
        assert result.left_out == {}


def test_weights_turn_the_choice_and_drop_dimensions() -> None:
    votes = [vote("a", "b", "a", "VQ"), vote("a", "b", "b", "MQ"), vote("a", "b", "a", "TA")]
    (pair,) = preferences([group(1, "a", "b")], votes, weights={"VQ": 1, "MQ": 3}).pairs
    assert (pair.chosen, pair.margin) == ("b", 0.5)
    assert pair.margins == {"MQ": 1.0, "VQ": -1.0}


def test_margins_that_cancel_are_no_preference_whatever_the_rounding() -> None:
    votes = [vote("a", "b", "a", "VQ"), vote("a", "b", "a", "MQ"), vote("a", "b", "b", "TA")]
    result = preferences([group(1, "a", "b")], votes, weights={"VQ": 0.1, "MQ": 0.2, "TA": 0.3}, pairs="all")
    assert (result.pairs, result.left_out) == ([], {NO_PREFERENCE: 1})


def test_best_against_worst_of_four() -> None:
    # a beats everyone, d loses to everyone, b and c tie: means a 1, b 0, c 0, d -1.
    votes = [vote("a", other, "a") for other in "bcd"] + [vote("b", "c", "tie")]
    votes += [vote("b", "d", "a"), vote("c", "d", "a")]
    (pair,) = preferences([group(7, "a", "b", "c", "d")], votes).pairs
    assert (pair.prompt_id, pair.chosen, pair.rejected, pair.margin) == (7, "a", "d", 1.0)

    result = preferences([group(7, "a", "b", "c", "d")], votes, pairs="all")
    assert [(pair.chosen, pair.rejected) for pair in result.pairs] == [
        ("a", "b"),
        ("a", "c"),
        ("a", "d"),
        ("b", "d"),
        ("c", "d"),
    ]
    assert result.left_out == {NO_PREFERENCE: 1}


def test_best_and_worst_linked_through_a_third() -> None:
    # a > b > c, a and c never compared: means a 1, b 0, c -1.
    (pair,) = preferences([group(1, "c", "a", "b")], [vote("a", "b", "a"), vote("b", "c", "a")]).pairs
    assert (pair.chosen, pair.rejected, pair.margin, pair.margins) == ("a", "c", 1.0, {"VQ": 1.0})


def test_islands_of_comparisons_are_not_joined() -> None:
    # a > b on one of two dimensions, c > d on both: c is the best and d the worst.
    votes = [
        vote("a", "b", "a", "VQ"),
        vote("a", "b", "tie", "MQ"),
        vote("c", "d", "a", "VQ"),
        vote("c", "d", "a", "MQ"),
    ]
    (pair,) = preferences([group(1, "a", "b", "c", "d")], votes).pairs
    assert (pair.chosen, pair.rejected) == ("c", "d")
    # a beats b and c, who tie: 1, -1/2, -1/2. d loses to e and f, who tie: -1, 1/2, 1/2. Nothing links a and d.
    votes = [vote("a", "b", "a"), vote("a", "c", "a"), vote("b", "c", "tie")]
    votes += [vote("d", "e", "b"), vote("d", "f", "b"), vote("e", "f", "tie")]
    result = preferences([group(1, *"abcdef")], votes)
    assert (result.pairs, result.left_out) == ([], {NOT_LINKED: 1})
    linked = preferences([group(1, *"abcdef")], [*votes, vote("c", "e", "tie")])
    assert [(pair.chosen, pair.rejected) for pair in linked.pairs] == [("a", "d")]


def test_what_gives_no_pair_is_counted() -> None:
    groups = [group(1, "a", "b"), group(2, "c", "d"), group(3, "e"), group(4, "f", "g")]
    votes = [vote("a", "b", "tie"), vote("c", "d", "b"), vote("a", "c", "a"), vote("e", "x", "a"), vote("x", "y", "a")]
    result = preferences(groups, votes)
    assert [(pair.chosen, pair.rejected) for pair in result.pairs] == [("d", "c")]
    assert result.left_out == {NO_PREFERENCE: 1, TOO_FEW: 2, ACROSS_GROUPS: 2}


def test_wrong_weights() -> None:
    votes = [vote("a", "b", "a", "VQ"), vote("a", "b", "b", "MQ")]
    for weights in ({"VQ": -1.0}, {"VQ": 0.0}, {"VQ": float("nan")}, {}):
        with pytest.raises(ReelignError, match="weights must be at least 0"):
            preferences([group(1, "a", "b")], votes, weights=weights)
    with pytest.raises(ReelignError, match="Did you mean 'MQ'"):
        preferences([group(1, "a", "b")], votes, weights={"MQQ": 1})


VERDICTS: tuple[Verdict, ...] = ("a", "b", "tie")
SWAPPED: dict[Verdict, Verdict] = {"a": "b", "b": "a", "tie": "tie"}
GROUPS = [group(1, *"abcd"), group(2, *"efg")]
KEYS = [(a, b, d) for names in ("abcd", "efg") for a in names for b in names if a < b for d in ("VQ", "MQ", "TA")]


@settings(max_examples=150, deadline=None)
@given(
    outcomes=st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VERDICTS)),
    weights=st.none() | st.fixed_dictionaries({name: st.floats(0.01, 10) for name in ("VQ", "MQ", "TA")}),
    pairs=st.sampled_from(["all", "best_worst"]),
)
def test_swapping_every_verdict_swaps_every_pair(
    outcomes: dict[tuple[str, str, str], Verdict],
    weights: dict[str, float] | None,
    pairs: Literal["all", "best_worst"],
) -> None:
    votes = [vote(a, b, verdict, dimension) for (a, b, dimension), verdict in sorted(outcomes.items())]
    if weights is not None:
        weights = {name: weights[name] for name in {each.dimension for each in votes}} or None
    result = preferences(GROUPS, votes, weights=weights, pairs=pairs)
    mirrored = preferences(
        GROUPS, [replace(each, verdict=SWAPPED[each.verdict]) for each in votes], weights=weights, pairs=pairs
    )
    assert mirrored.left_out == result.left_out
    assert [replace(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in mirrored.pairs] == result.pairs
    judged = {video for a, b, _ in outcomes for video in (a, b)}
    for pair in result.pairs:
        assert 0 < pair.margin <= 1
        assert {pair.chosen, pair.rejected} <= judged
        assert all(-1 <= margin <= 1 for margin in pair.margins.values())
    assert preferences(GROUPS, reversed(votes), weights=weights, pairs=pairs) == result, "order does not matter"
