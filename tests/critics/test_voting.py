"""Votes in both orders: what agrees counts, what goes with the place is dropped and told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from critics.chat import Answer, ChatServer, Question, chatting, honest
from critics.clips import flat
from reelign.critics import Comparison, Rating, Voted, Voting, open_critic
from reelign.critics.voting import in_both_orders, settled
from reelign.errors import ReelignError

BRIGHT, DARK = flat(0.8), flat(0.2)


def voted(server: ChatServer, *, temperature: float = 0.0, format: str = "plain", **voting: Any) -> Voted:
    return Voted(open_critic(server.url, temperature=temperature, format=format), Voting(**voting))


def in_turn(*answers: str) -> Answer:
    """Answers in the order of the questions."""
    left = list(answers)
    return lambda question: f"Verdict: {left.pop(0)}"


def test_an_honest_critic_is_kept_in_both_orders() -> None:
    with chatting(honest) as server:
        critic = voted(server)
        assert critic.compare(BRIGHT, DARK, "", "VQ").verdict == "a"
        found = critic.compare(DARK, BRIGHT, "", "VQ")
    assert (found.verdict, len(found.answers)) == ("b", 2)
    assert found.certainty == pytest.approx(0.75 / 0.95, abs=1e-4)
    assert [question.brighter for question in server.questions] == ["A", "B", "B", "A"]
    assert not critic.ordered


def test_a_verdict_that_goes_with_the_place_is_dropped_and_counted() -> None:
    with chatting(lambda question: "Verdict: A") as server:
        critic = voted(server)
        found = critic.compare(BRIGHT, DARK, "", "VQ")
        assert (found.verdict, found.left_out) == (None, "inconsistent")
        assert critic.tally.counts["inconsistent"] == 1
        assert voted(server, swap=False).compare(BRIGHT, DARK, "", "VQ").verdict == "a"


def test_most_votes_decide_and_a_draw_decides_nothing() -> None:
    def said(*answers: str, **voting: Any) -> Comparison:
        with chatting(in_turn(*answers)) as server:
            return voted(server, temperature=1.0, swap=False, votes=len(answers), **voting).compare(
                BRIGHT, DARK, "", "VQ"
            )

    found = said("B", "A", "B")
    assert (found.verdict, found.certainty) == ("b", pytest.approx(2 / 3))
    assert said("B", "hm", "tie", "B").certainty == pytest.approx(0.5)
    assert said("B", "A").left_out == "undecided"
    assert said("hm", "hm", "hm").left_out == "unparseable"
    assert said("B", "A", "B", min_certainty=0.7).left_out == "uncertain"


def test_grades_are_voted_on_alike() -> None:
    with chatting(in_turn("good", "bad", "good")) as server:
        found = voted(server, temperature=1.0, votes=3).rate(BRIGHT, "", "VQ")
    assert (found.grade, found.certainty) == ("good", pytest.approx(2 / 3))


def test_numbers_that_are_close_are_a_tie() -> None:
    def shares(question: Question) -> str:
        first, second = (0.6, 0.4) if question.brighter == "A" else (0.45, 0.55)
        return f"Alignment Score:\n Video 1: {first}\n Video 2: {second}\n"

    with chatting(shares) as server:
        one = voted(server, format="unifiedreward-2").compare(BRIGHT, DARK, "", "TA")
        assert (one.verdict, one.margin) == ("a", pytest.approx(0.15))  # 0.2 and, the other way round, 0.1
        assert voted(server, format="unifiedreward-2", tie=0.2 + 1e-9).compare(BRIGHT, DARK, "", "TA").verdict == "tie"
        between = voted(server, format="unifiedreward-2", tie=0.15).compare(BRIGHT, DARK, "", "TA")
    assert (between.verdict, between.left_out) == (None, "inconsistent")


def test_a_critic_of_single_videos_sees_no_order_and_is_asked_once_each() -> None:
    lines = "visual quality: {}\ntext-to-video alignment: 3\nphysical/common-sense consistency: 3"

    def rates(question: Question) -> str:
        return lines.format(5 if question.images[0].mean() > 128 else 2)

    with chatting(rates) as server:
        critic = voted(server, format="videoscore2")
        found = critic.compare(BRIGHT, DARK, "", "VQ")
    assert (found.verdict, found.margin, len(server.questions)) == ("a", 3.0, 2)


def test_votes_that_would_all_be_the_same_are_refused() -> None:
    with chatting(honest) as server, pytest.raises(ReelignError, match=r"3 votes .* temperature 0"):
        voted(server, votes=3)
    for wrong in ({"votes": 0}, {"tie": -1.0}, {"min_certainty": 1.5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Voting(**wrong)


def test_half_a_vote_is_none() -> None:
    sure = Comparison(verdict="a", certainty=0.9, margin=0.5)
    lost = Comparison(verdict=None, left_out="unparseable")
    assert in_both_orders(sure, lost).left_out == "unparseable"
    both = in_both_orders(sure, Comparison(verdict="b", certainty=0.5, margin=-0.1))
    assert (both.verdict, both.certainty, both.margin) == ("a", pytest.approx(0.7), pytest.approx(0.3))


def test_of_one_vote_the_certainty_is_the_critics_own() -> None:
    votes: Sequence[Rating] = [Rating(grade="bad", certainty=0.8, reason="Blurred.")]
    found = settled(votes, ["bad"])
    assert (found.choice, found.certainty, found.reason) == ("bad", 0.8, "Blurred.")
