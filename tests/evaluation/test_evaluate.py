"""Evaluating recorded videos: the numbers are the scorer's own, and what a scorer cannot say is refused."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluation.conftest import moving_square
from evaluation.scorers import brightness, sizes
from reelign.config import resolve
from reelign.errors import ReelignError
from reelign.evaluation import EvaluateSettings, evaluate
from reelign.evaluation.evaluate import load_scorer
from reelign.records import Video, Workspace
from reelign.spriteworld.judges import scores
from reelign.spriteworld.prompts import held_out_captions
from reelign.video import read_video, write_video


def recorded(folder: Path, *, prompts: int = 2, seeds: int = 2) -> tuple[Workspace, list[Video]]:
    """A workspace with a moving square of its own for each prompt and seed."""
    workspace = Workspace.create(folder / "ws", model="some/model")
    texts = held_out_captions()[:prompts]
    videos = []
    for prompt in workspace.add_prompts(texts, "held_out"):
        for seed in range(seeds):
            number = seeds * (prompt.id - 1) + seed
            video = Video(
                id=f"v{number:03d}",
                prompt_id=prompt.id,
                generator="some/model",
                seed=seed,
                index=seed,
                path=f"videos/{number}.mp4",
                fps=8.0,
                num_frames=5,
                height=32,
                width=32,
            )
            write_video(workspace.video_path(video), moving_square(frames=5) * (1 - number / 200), 8.0)
            videos.append(video)
    workspace.add_videos(videos)
    return workspace, videos


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"resamples": 0}, "resamples must be at least 1, got 0"),
        ({"tie": -0.1}, "tie must be a number of at least 0, got -0.1"),
        ({"tie": float("nan")}, "tie must be a number of at least 0, got nan"),
    ],
)
def test_settings_that_cannot_be_evaluated_with(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ReelignError, match=message):
        resolve(EvaluateSettings, [("the call", given)])


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        ("a_list", "returned list and no tensors"),
        ("lists", "returned dict and no tensors"),
        ("one_for_all", r"returned VQ as \(\) for 4 videos"),
        ("not_finite", "VQ of a video of 'a .*' is nan"),
    ],
)
def test_what_a_scorer_may_not_return(scorer: str, message: str, tmp_path: Path) -> None:
    workspace, videos = recorded(tmp_path)
    with pytest.raises(ReelignError, match=message):
        evaluate(workspace, videos, videos, EvaluateSettings(scorer=f"evaluation.scorers:{scorer}", seeds=2))


def test_a_reward_named_as_a_scorer_is_told_its_prefix() -> None:
    named = "reelign.spriteworld.reward:SpriteReward"
    with pytest.raises(ReelignError, match=f"{named} is no function") as error:
        load_scorer(named)
    assert f"reward:{named}" in error.value.mend
    assert load_scorer(f"reward:{named}")


def test_each_video_has_its_own_score(tmp_path: Path) -> None:
    workspace, videos = recorded(tmp_path)
    found = evaluate(workspace, videos, videos[1:], EvaluateSettings(scorer="evaluation.scorers:brightness", seeds=2))
    frames = torch.stack([read_video(workspace.video_path(video)).frames for video in videos])
    assert found.base_scores["VQ"].tolist() == brightness(frames, [])["VQ"].tolist()
    assert found.aligned_scores["VQ"].isnan().tolist() == [True, False, False, False]
    assert found.comparison.gain == 0


def test_many_videos_are_scored_as_all_at_once_and_large_ones_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, videos = recorded(tmp_path, prompts=36)
    found = evaluate(workspace, videos, videos, EvaluateSettings(seeds=2))
    text = {prompt.id: prompt.text for prompt in workspace.prompts()}
    frames = torch.stack([read_video(workspace.video_path(video)).frames for video in videos])
    for name, values in scores(frames, [text[video.prompt_id] for video in videos]).items():
        assert torch.equal(found.base_scores[name], values)

    settings = EvaluateSettings(scorer="evaluation.scorers:counted", seeds=2)
    for room, expected in ((1 << 30, [64, 8] * 2), (3 * frames[0].nbytes, [3] * 48), (1, [1] * 144)):
        sizes.clear()
        monkeypatch.setattr(import_module("reelign.evaluation.evaluate"), "READ_BYTES", room)
        assert not evaluate(workspace, videos, videos, settings).base_scores["VQ"].requires_grad
        assert sizes == expected
