"""What the record says of each judge, worked by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from records.test_votes import judgements
from reelign.records import Judgement, Task
from reelign.records.columns import Comparisons
from reelign.records.panel import Share, answered_right, judge_statistics


def one(verdict: str, *, a: str = "v0", b: str | None = "v1", **others: Any) -> Judgement:
    fields = {"dimension": "VQ", "judge": "j0", "judge_version": "1", **others}
    return Judgement(video_a=a, video_b=b, verdict=verdict, **fields)


def test_agreement_is_with_the_others() -> None:
    said = [*judgements("a", "a", "b"), *judgements("tie", "b", b="v2"), *judgements("a", b="v3")]
    first, second, third = judge_statistics(Comparisons.of(said))
    # Of v0 and v1, j0 and j1 each face one a and one b, which is no majority; j2 faces two a.
    assert (first.agrees.value, first.agrees.of) == (0, 1)
    assert (second.agrees.value, second.agrees.of) == (0, 1)
    assert (third.agrees.value, third.agrees.of) == (0, 1)
    (one, two, three) = judge_statistics(Comparisons.of(judgements("a", "a", "a")))
    assert [each.agrees.value for each in (one, two, three)] == [1, 1, 1]


def test_a_taste_for_the_left() -> None:
    said = [one("a", b=f"v{number}") for number in range(1, 9)]
    said += [one("b", a=f"v{number}", b="v0", shown_left="b") for number in range(11, 13)]
    said += [one("b", b=f"w{number}") for number in range(2)]
    said += [one("tie", b="x"), one("cannot_say", b="y")]
    (statistics,) = judge_statistics(Comparisons.of(said), durations={"j0": [1.0, 2.0, 9.0]})
    assert (statistics.left.value, statistics.left.of) == (10 / 12, 12)
    # Wilson's interval for 10 of 12, as in textbooks.
    assert (statistics.left.low, statistics.left.high) == pytest.approx((0.552, 0.953), abs=1e-3)
    assert (statistics.ties.value, statistics.ties.of) == (1 / 13, 13)
    assert (statistics.cannot_say.value, statistics.cannot_say.of) == (1 / 14, 14)
    assert statistics.median_s == 2.0
    assert (statistics.gold.of, math.isnan(statistics.gold.value)) == (0, True)


def test_the_best_of_n_has_no_left() -> None:
    best = one("0", b=None, kind="best_of", candidates=["v0", "v1", "v2"])
    (statistics,) = judge_statistics(Comparisons.of([best]))
    assert statistics.left.of == statistics.cannot_say.of == 0


def test_gold_is_right_however_it_was_shown() -> None:
    task = Task(id="t", videos=["v0", "v1"], dimensions=["VQ"], gold={"VQ": "a"})
    assert answered_right(one("a"), task)
    assert answered_right(one("b", a="v1", b="v0"), task)
    assert not answered_right(one("a", a="v1", b="v0"), task)
    assert not answered_right(one("cannot_say"), task)
    best = Task(id="u", kind="best_of", videos=["v0", "v1", "v2"], dimensions=["VQ"], gold={"VQ": "2"})
    assert answered_right(one("0", a="v2", b=None, kind="best_of", candidates=["v2", "v0", "v1"]), best)
    assert not answered_right(one("2", b=None, kind="best_of", candidates=["v0", "v2", "v1"]), best)
    grade = Task(id="w", kind="rating", videos=["v0"], dimensions=["VQ"], gold={"VQ": "4"})
    assert answered_right(one("4", b=None, kind="rating"), grade)


def test_gold_is_counted_by_judge() -> None:
    comparisons = Comparisons.of(judgements("a", "b"))
    gold = [("j0", True), ("j0", False), ("j1", True), ("gone", True)]
    first, second = judge_statistics(comparisons, gold=gold)
    assert (first.gold, second.gold) == (Share.count(1, 2), Share.count(1, 1))
