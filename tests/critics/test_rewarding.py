"""A critic as a reward: grades as numbers, silence as NaN."""

from __future__ import annotations

import pytest
import torch

from critics.chat import Question, chatting
from critics.clips import flat
from reelign.errors import ReelignError
from reelign.rewards import open_reward


def grade(question: Question) -> str:
    light = question.images[0].mean() / 255
    if "text alignment" in question.text and "a lamp" not in question.text:
        return "I cannot tell."
    return f"Verdict: {'good' if light > 0.6 else 'normal' if light > 0.3 else 'bad'}"


def test_grades_are_numbers_and_silence_is_nan() -> None:
    videos = torch.stack([flat(level).frames for level in (0.9, 0.5, 0.1)])
    with chatting(grade) as server:
        reward = open_reward("critic", critic=server.url, dimensions=["VQ", "TA"])
        scores = reward.score(videos, ["a lamp", "a tree", "a lamp"], fps=8.0)
        assert reward.name == "seer"
    assert scores["VQ"].tolist() == [1.0, 0.5, 0.0]
    assert scores["TA"][[0, 2]].tolist() == [1.0, 0.0]
    assert scores["TA"][1].isnan()
    assert reward.critic.tally.counts["unparseable"] == 1  # type: ignore[attr-defined]


def test_a_critic_that_gives_numbers_keeps_its_scale() -> None:
    answer = "Alignment Score (1-5): 4.5\nPhysics Score (1-5): 2\nStyle Score (1-5): 3"
    with chatting(lambda question: answer) as server:
        options = {"server": {"url": server.url}}
        reward = open_reward("critic", critic="unifiedreward-2", options=options)
        scores = reward.score([flat(0.5).frames], ["a lamp"], fps=8.0)
    assert {name: values.item() for name, values in scores.items()} == {"TA": 4.5, "physics": 2.0, "style": 3.0}


def test_what_a_critic_cannot_rate_is_refused() -> None:
    with chatting(grade) as server:
        options = {"server": {"url": server.url}}
        with pytest.raises(ReelignError, match="judges single videos on nothing"):
            open_reward("critic", critic="unifiedreward-think", dimensions=["overall"], options=options)
        with pytest.raises(ReelignError, match="no frame rate"):
            open_reward("critic", critic=server.url).score([flat(0.5).frames], ["a"])
        with pytest.raises(ReelignError, match="option of the critic"):
            open_reward("critic", critic=server.url, options={"frame": 3})
