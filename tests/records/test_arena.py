"""Bradley–Terry strengths: closed forms, known truths, and what cannot be compared."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reelign.records import Vote
from reelign.records.answers import Verdict
from reelign.records.arena import ArenaRow, arena


def table(outcomes: list[tuple[str, str, Verdict]], *, per_prompt: int = 1) -> list[ArenaRow]:
    """Of votes between generators, each on two videos of its own."""
    votes, generators, prompts = [], {}, {}
    for number, (one, other, verdict) in enumerate(outcomes):
        a, b = f"{number:05}a", f"{number:05}b"
        generators |= {a: one, b: other}
        prompts |= dict.fromkeys((a, b), number // per_prompt)
        votes.append(Vote(video_a=a, video_b=b, dimension="VQ", verdict=verdict, consistency=1.0, count=3))
    return arena(votes, generators, prompts)


def test_two_generators_have_the_log_odds_of_their_wins() -> None:
    first, second = table([("wan", "cog", "a")] * 60 + [("cog", "wan", "a")] * 20 + [("wan", "cog", "tie")] * 20)
    assert (first.generator, second.generator) == ("wan", "cog")
    assert first.strength - second.strength == pytest.approx(math.log(70 / 30), rel=1e-3)
    assert first.strength + second.strength == pytest.approx(0, abs=1e-9)
    assert (first.wins, first.ties, first.losses) == (60, 20, 20)
    assert (second.wins, second.ties, second.losses) == (20, 20, 60)


def test_the_interval_of_wins_and_losses_alone_is_that_of_the_log_odds() -> None:
    first, _ = table([("wan", "cog", "a")] * 60 + [("wan", "cog", "b")] * 40)
    # Half of the difference, whose variance is 1/60 + 1/40.
    half = 1.959964 * math.sqrt(1 / 60 + 1 / 40) / 2
    assert (first.low, first.high) == pytest.approx((first.strength - half, first.strength + half), abs=1e-4)


def test_votes_that_hang_together_widen_the_interval() -> None:
    outcomes: list[tuple[str, str, Verdict]] = [
        ("wan", "cog", "a" if number % 20 < 12 else "b") for number in range(200)
    ]
    alone, *_ = table(outcomes)
    prompts = [("wan", "cog", "a" if number % 20 < 12 else "b") for number in range(20) for _ in range(10)]
    together, *_ = table(prompts, per_prompt=10)  # type: ignore[arg-type]
    assert together.strength == pytest.approx(alone.strength, rel=1e-6)
    assert together.high - together.low == pytest.approx(math.sqrt(10) * (alone.high - alone.low), rel=1e-3)


def test_true_strengths_lie_in_their_intervals() -> None:
    truth = {"a": 1.0, "b": 0.2, "c": -0.3, "d": -0.9}
    random, names, held = np.random.default_rng(0), list(truth), 0
    for _ in range(40):
        outcomes: list[tuple[str, str, Verdict]] = []
        for _ in range(300):
            one, other = random.choice(names, 2, replace=False)
            chance = 1 / (1 + math.exp(truth[other] - truth[one]))
            outcomes.append((one, other, "a" if random.random() < chance else "b"))
        held += sum(row.low <= truth[row.generator] <= row.high for row in table(outcomes))
    assert 0.90 <= held / 160 <= 0.99


def test_a_generator_that_never_lost_stays_finite_and_first() -> None:
    rows = table([("best", "mid", "a")] * 5 + [("mid", "low", "a")] * 5)
    assert [row.generator for row in rows] == ["best", "mid", "low"]
    assert all(math.isfinite(row.strength) and math.isfinite(row.low) for row in rows)


def test_generators_without_a_link_are_on_islands() -> None:
    rows = table([("a", "b", "a"), ("c", "d", "b"), ("a", "b", "b")])
    assert [(row.generator, row.island) for row in rows] == [("a", 0), ("b", 0), ("d", 1), ("c", 1)]


def test_one_generator_alone_has_no_table() -> None:
    assert table([("wan", "wan", "a")]) == []
