"""Answers are kept by all that was asked, and asked once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from critics.chat import Question, chatting, honest
from critics.clips import flat
from reelign.critics import open_critic
from reelign.critics.asking import AskingCritic
from reelign.errors import ReelignError


def opened(url: str, folder: Path, **options: Any) -> AskingCritic:
    critic = open_critic(url, cache=str(folder), **options)
    assert isinstance(critic, AskingCritic)
    return critic


def seer(question: Question) -> str:
    """Of pairs and single videos, sent as pictures or not."""
    return honest(question) if len(question.images) > 1 else "Verdict: good"


def test_the_same_question_is_asked_once_and_any_other_again(tmp_path: Path) -> None:
    with chatting(seer) as server:
        first = opened(server.url, tmp_path).compare(flat(0.8), flat(0.2), "a lamp", "TA")
        again = opened(server.url, tmp_path)
        assert again.compare(flat(0.8), flat(0.2), "a lamp", "TA") == first
        assert (len(server.questions), again.tally.counts["cached"], again.tally.counts["prompt_tokens"]) == (1, 1, 0)
        others = [
            lambda: again.compare(flat(0.2), flat(0.8), "a lamp", "TA"),
            lambda: again.compare(flat(0.8, fps=4.0), flat(0.2), "a lamp", "TA"),
            lambda: again.compare(flat(0.8), flat(0.2), "a tree", "TA"),
            lambda: again.compare(flat(0.8), flat(0.2), "a lamp", "VQ"),
            lambda: again.rate(flat(0.8), "a lamp", "TA"),
            lambda: opened(server.url, tmp_path, max_tokens=8).compare(flat(0.8), flat(0.2), "a lamp", "TA"),
            lambda: opened(server.url, tmp_path, frames=2).compare(flat(0.8), flat(0.2), "a lamp", "TA"),
            lambda: opened(server.url, tmp_path, server={"send": "video"}).compare(
                flat(0.8), flat(0.2), "a lamp", "TA"
            ),
        ]
        for count, other in enumerate(others, start=2):
            other()
            assert len(server.questions) == count


def test_votes_have_answers_of_their_own_only_where_chance_plays_a_part(tmp_path: Path) -> None:
    with chatting(honest) as server:
        still, warm = opened(server.url, tmp_path), opened(server.url, tmp_path, temperature=1.0)
        for critic, asked in ((still, 1), (warm, 4)):
            for vote in (0, 1, 2, 1):
                critic.compare(flat(0.8), flat(0.2), "", "VQ", vote=vote)
            assert len(server.questions) == asked
        seeds = [question.asked["seed"] for question in server.questions[1:]]
    assert len(set(seeds)) == 3


def test_an_unclear_answer_is_kept_too_and_a_refusal_is_not(tmp_path: Path) -> None:
    def unsure(question: Question) -> str:
        return "I cannot tell."

    with chatting(unsure, faults=[(400, {}, "too long")]) as server:
        critic = opened(server.url, tmp_path)
        left_out = [critic.compare(flat(0.8), flat(0.2), "", "VQ").left_out for _ in range(3)]
    assert [reason.partition(":")[0] for reason in left_out] == ["refused", "unparseable", "unparseable"]
    assert len(server.questions) == 1


def test_a_damaged_answer_is_refused_by_its_name(tmp_path: Path) -> None:
    with chatting(honest) as server:
        critic = opened(server.url, tmp_path)
        critic.compare(flat(0.8), flat(0.2), "", "VQ")
        (kept,) = tmp_path.rglob("*.json")
        kept.write_text('{"text": "Verdict: A"')
        with pytest.raises(ReelignError, match=kept.name):
            critic.compare(flat(0.8), flat(0.2), "", "VQ")
