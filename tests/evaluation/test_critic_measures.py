"""What is measured of a critic's answers, on a few questions whose numbers are worked out by hand."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pytest
import torch

from reelign.evaluation.critic_answers import VALUES, Answer, Question
from reelign.evaluation.critic_measures import agreement_of_askings, measure_pairs, measure_videos
from reelign.evaluation.critic_plan import Plan, Probed
from reelign.evaluation.critic_results import CriticMeasured
from reelign.evaluation.critic_tables import critic_tables
from reelign.evaluation.ranking_intervals import interval

MEAN = partial(interval, resamples=50, level=0.9, seed=0)
NAN = math.nan


def question(*videos: str, prompt: str = "a dog", vote: int = 0) -> Question:
    return Question(videos=tuple(map(Path, videos)), prompt=prompt, dimension="TA", vote=vote)


def answer(verdict: str | None, certainty: float | None = None) -> Answer:
    return Answer(verdict=verdict, certainty=certainty, left_out="" if verdict else "unparseable")


def test_two_videos_by_hand() -> None:
    said = (1.0, -1.0, 0.0, 1.0)
    asked = tuple(
        (question(f"{n}x", f"{n}y", prompt=f"p{n}"), question(f"{n}y", f"{n}x", prompt=f"p{n}")) for n in range(4)
    )
    told = (("a", "b"), ("a", "a"), ("tie", "a"), (None, "a"))
    answers = {q: answer(v) for own, both in zip(asked, told, strict=True) for q, v in zip(own, both, strict=True)}
    found = measure_pairs(Plan(answered_by="TA", said=said, asked=asked, probed=()), answers, MEAN)
    assert (found.pairs, found.ties) == (4, 1)
    # Pair 0 right in both orders, pair 1 in one, pair 3 wrong in its only answer.
    assert found.without_ties.mean == pytest.approx((1 + 0.5 + 0) / 3)
    assert found.with_ties.mean == pytest.approx((1 + 0.5 + 0.5 + 0) / 4)
    # Of the three with both answers the first alone says the same of the same videos.
    assert found.consistent.mean == pytest.approx(1 / 3)
    assert (found.swapped.mean, found.swapped_with_ties.mean) == (1, 1)
    # First chosen: once of two, twice of two, once of one decided, once of one answered.
    assert found.first.mean == pytest.approx((0.5 + 1 + 1 + 1) / 4)
    assert found.answers.unanswered.mean == pytest.approx(0.5 / 4)
    assert found.answers.left_out == {"unparseable": 1}
    assert found.answers.repeated is None
    assert found.certain == ()


def test_certainty_draws_a_line() -> None:
    asked = ((question("x", "y"), question("y", "x")), (question("u", "v", prompt="b"), question("v", "u", prompt="b")))
    told = ((("a", 0.97), ("b", 0.65)), (("b", 0.55), ("a", 0.85)))
    answers = {q: answer(*v) for own, both in zip(asked, told, strict=True) for q, v in zip(own, both, strict=True)}
    found = measure_pairs(Plan(answered_by="TA", said=(1.0, 1.0), asked=asked, probed=()), answers, MEAN)
    rows = {each.at_least: each for each in found.certain}
    # The first pair is right both times, the second wrong both times.
    assert (rows[0.6].share.mean, rows[0.6].right.mean) == (0.75, 0.5)
    assert (rows[0.8].share.mean, rows[0.8].right.mean) == (0.5, 0.5)
    assert (rows[0.95].share.mean, rows[0.95].right.mean) == (0.25, 1)


def test_one_video_by_hand() -> None:
    grades = ("good", "good", "bad", "normal", "bad", None)
    told = ("good", "normal", "normal", None, "bad", "good")
    asked = tuple((question(f"{n}", prompt=f"p{n}"),) for n in range(6))
    answers = {own[0]: answer(v) for own, v in zip(asked, told, strict=True)}
    plan = Plan(
        answered_by="TA",
        said=tuple(NAN if each is None else VALUES[each] for each in grades),
        asked=asked,
        probed=(),
        ratings=(4.0, 3.0, 3.0, 5.0, 1.0, 5.0),
    )
    found = measure_videos(plan, answers, MEAN)
    assert found.videos == 5
    assert found.three_level.mean == pytest.approx(2 / 4)  # of four with both grades
    assert found.desirable.mean == pytest.approx(3 / 4)  # one bad video called normal
    assert found.confusion["bad"] == {"good": 0, "normal": 1, "bad": 1}
    assert found.confusion["normal"] == {"good": 0, "normal": 0, "bad": 0}
    assert found.correlation is not None
    assert found.correlation.videos == 5
    assert found.correlation.spearman > 0.9


def test_repeats_and_other_prompts_by_hand() -> None:
    right = [question("x", "y", prompt="p"), question("u", "v", prompt="q")]
    probes = [
        Probed(
            right=each,
            repeats=tuple(question(*map(str, each.videos), prompt=each.prompt, vote=vote) for vote in (1, 2)),
            empty=question(*map(str, each.videos), prompt=""),
            wrong=question(*map(str, each.videos), prompt="q" if each.prompt == "p" else "p"),
        )
        for each in right
    ]
    turned = [question(*map(str, each.videos[::-1]), prompt=each.prompt) for each in right]
    answers = {each: answer("b") for each in turned}
    # The same thrice; and twice of three askings, one without a verdict.
    for probe, own in zip(probes, (("a", "a", "a"), ("a", "b", None)), strict=True):
        answers |= {q: answer(v) for q, v in zip((probe.right, *probe.repeats), own, strict=True)}
    answers |= {probes[0].empty: answer("tie"), probes[1].empty: answer("a")}  # type: ignore[dict-item]
    answers |= {probes[0].wrong: answer("b"), probes[1].wrong: answer("b")}  # type: ignore[dict-item]
    plan = Plan(
        answered_by="TA",
        said=(1.0, 1.0),
        asked=tuple(zip(right, turned, strict=True)),
        probed=tuple(enumerate(probes)),
    )
    found = measure_pairs(plan, answers, MEAN)
    assert found.answers.repeated is not None
    assert found.answers.repeated.mean == pytest.approx((1 + 0) / 2)
    own = found.answers.prompts
    assert own is not None
    assert (own.probes, own.right.mean) == (2, 1)
    assert (own.accuracy["empty"].mean, own.changed["empty"].mean) == (0.75, 0.5)
    assert (own.accuracy["wrong"].mean, own.changed["wrong"].mean) == (0, 1)
    tables = "\n".join(each.text() for each in critic_tables(CriticMeasured(pairs={"TA": found}), "mine"))
    for title in ("Accuracy (as IPO's Table 6)", "Two videos", "Answers", "Other prompts"):
        assert title in tables
    assert "83.72" in tables


def test_askings_agree_by_pairs_of_them() -> None:
    values = torch.tensor([[1.0, 1.0, -1.0], [1.0, NAN, NAN], [0.0, 0.0, 0.0]])
    found = agreement_of_askings(values)
    assert found[0] == pytest.approx(1 / 3)
    assert found[1].isnan()
    assert found[2] == 1
