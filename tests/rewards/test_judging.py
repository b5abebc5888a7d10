"""A reward as a judge: the higher score wins, a band makes ties, a video in several pairs is scored once."""

from __future__ import annotations

import pytest
import torch

from reelign.errors import ReelignError
from reelign.records import kind_of, load_judges
from reelign.rewards.compose import Composed, Part
from reelign.rewards.judging import RewardJudge, RewardScorer, RewardUse, reward_judge
from rewards.rewards import Light

LIGHT = "rewards.rewards:Light"


def grey(*levels: float) -> torch.Tensor:
    return torch.tensor(levels).view(-1, 1, 1, 1, 1).expand(-1, 4, 3, 16, 16).contiguous()


def compare(judge: RewardJudge, a: list[float], b: list[float], prompts: list[str]) -> list[dict[str, str]]:
    verdicts = judge.compare(grey(*a), grey(*b), prompts, generator=torch.Generator())
    return [dict(each) for each in verdicts]


def test_the_higher_score_wins_within_no_band() -> None:
    judge = RewardJudge(Light())
    assert kind_of(judge) == "reward"
    assert compare(judge, [0.2, 0.9, 0.5], [0.3, 0.1, 0.5], ["p", "q", "r"]) == [
        {"VQ": "b", "TA": "tie"},
        {"VQ": "a", "TA": "tie"},
        {"VQ": "tie", "TA": "tie"},
    ]


def test_a_band_per_dimension_and_its_edge() -> None:
    judge = RewardJudge(Light(), tie={"VQ": 0.25})
    assert [judge.verdict("VQ", 0.5, other) for other in (0.25, 0.75, 0.125, 0.875)] == ["tie", "tie", "a", "b"]
    assert judge.verdict("TA", 0.5, 0.50001) == "b"
    both = RewardJudge(Light(), tie=1.0)
    assert (both.verdict("TA", 1, 2), both.verdict("VQ", 1, 2)) == ("tie", "tie")
    assert len({RewardJudge(Light()).version, judge.version, both.version}) == 3


def test_every_video_is_scored_once_in_batches() -> None:
    reward = Light()
    judge = RewardJudge(reward, dimensions=("VQ",), batch_size=3)
    a, b = [0.1, 0.1, 0.1, 0.2, 0.2, 0.3], [0.2, 0.3, 0.4, 0.3, 0.4, 0.4]
    assert compare(judge, a, b, ["p"] * 6) == [{"VQ": "b"}] * 6
    assert reward.calls == [3, 1], "four candidates in six pairs"


def test_the_same_clip_of_another_prompt_is_another_sample() -> None:
    reward = Light()
    assert compare(RewardJudge(reward), [0.1, 0.2], [0.2, 0.1], ["p", "pq"])[1]["VQ"] == "a"
    assert sum(reward.calls) == 4


def test_half_a_comparison_is_refused() -> None:
    with pytest.raises(ReelignError, match="could not score VQ of a video of 'dark'"):
        compare(RewardJudge(Light()), [0.2, 0.0], [0.3, 0.1], ["bright", "dark"])


def test_named_with_settings() -> None:
    settings = RewardUse(options={"gain": 2.0}, tie=0.1, dimensions=("VQ",), codec_roundtrip=True)
    (judge,) = load_judges(f"reward:{LIGHT}", {"reward": settings})
    assert isinstance(judge, RewardJudge)
    assert judge.dimensions == ("VQ",)
    assert judge.version == "1 after H.264 at crf 23, tie within VQ 0.1"
    (plain,) = load_judges("reward:flicker")
    assert (plain.name, plain.dimensions) == ("flicker", ("steadiness",))
    with pytest.raises(ReelignError, match=r"No reward is called 'flickr'"):
        load_judges("reward:flickr")
    with pytest.raises(ReelignError, match="has no dimension 'MQ'"):
        reward_judge(LIGHT, RewardUse(dimensions=("MQ",)))
    with pytest.raises(ReelignError, match="has no dimension 'MQ'"):
        reward_judge(LIGHT, RewardUse(tie={"MQ": 1.0}))


@pytest.mark.parametrize("wrong", [{"tie": -1.0}, {"tie": {"VQ": float("nan")}}, {"batch_size": 0}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        RewardUse(**wrong)  # type: ignore[arg-type]


def test_scores_that_hold_for_one_batch_alone_are_refused() -> None:
    relative = Composed(parts=[Part(reward=Light(), weights={"VQ": 1}, normalise="group")])
    with pytest.raises(ReelignError, match="depend on the other videos"):
        RewardJudge(relative)


def test_a_reward_that_breaks_its_promise_is_named() -> None:
    class Short(Light):
        def score(self, *given: object, **how: object) -> dict[str, torch.Tensor]:
            return {"VQ": torch.zeros(1), "TA": torch.zeros(2)}

    with pytest.raises(ReelignError, match=r"'light' returned .* for 2 videos"):
        RewardScorer(RewardJudge(Short()))(grey(0.1, 0.2), ["a", "b"])


def test_a_scorer_gives_the_named_dimensions_without_gradients() -> None:
    scorer = RewardScorer(RewardJudge(Light(), dimensions=("VQ",)))
    found = scorer(grey(0.25, 0.5).requires_grad_(), ["a", "b"])
    assert {name: values.tolist() for name, values in found.items()} == {"VQ": [0.25, 0.5]}
    assert not found["VQ"].requires_grad
