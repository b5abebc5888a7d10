"""A reward as the scorer of `evaluate`: opened once, given the frame rate, and what it could not score is a failure."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from evaluation.test_evaluate import recorded
from reelign.errors import ReelignError
from reelign.evaluation import EvaluateSettings, check_scorer, evaluate
from reelign.rewards.judging import RewardUse
from reelign.video import read_video, write_video
from rewards import rewards

LIGHT = "reward:rewards.rewards:Light"


def settings(**reward: object) -> EvaluateSettings:
    return EvaluateSettings(seeds=2, resamples=20, scorer=LIGHT, reward=RewardUse(**reward))  # type: ignore[arg-type]


def test_scores_of_a_reward_in_its_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[rewards.Light] = []

    class Kept(rewards.Light):
        def __init__(self) -> None:
            super().__init__()
            opened.append(self)

    monkeypatch.setattr(rewards, "Light", Kept)
    workspace, videos = recorded(tmp_path)
    result = evaluate(workspace, videos, videos, settings(batch_size=3, dimensions=("VQ",)))
    light = [float(read_video(workspace.video_path(video)).frames.mean()) for video in videos]
    assert list(result.base_scores) == ["VQ"]
    torch.testing.assert_close(result.base_scores["VQ"], torch.tensor(light), atol=1e-6, rtol=0)
    assert [one.calls for one in opened] == [[3, 1, 3, 1]]


def test_what_it_could_not_score_is_a_failed_sample(tmp_path: Path) -> None:
    workspace, videos = recorded(tmp_path)
    write_video(workspace.video_path(videos[1]), torch.zeros(5, 3, 32, 32), 8)
    result = evaluate(workspace, videos, videos, settings())
    assert result.base_scores["VQ"].isnan().tolist() == [False, True, False, False]
    assert result.base_scores["TA"].isfinite().all()


def test_a_reward_is_looked_up_before_hours_of_sampling_and_not_opened() -> None:
    check_scorer("reward:videoreward", RewardUse(options={"model": "no/such-weights"}), ["a cat"])
    with pytest.raises(ReelignError, match="Did you mean 'flicker'"):
        check_scorer("reward:flickr", RewardUse(), [])
    with pytest.raises(ReelignError, match="takes no setting 'modell'"):
        check_scorer("reward:videoreward", RewardUse(options={"modell": "x"}), [])
