"""VideoReward as a reward: batches, files, gradients, a model of one's own kept and opened again, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards import open_reward
from reelign.rewards.videoreward import VideoReward, save_reward
from reelign.rewards.videoreward_clips import VideoRewardSettings
from reelign.rewards.videoreward_model import VideoRewardModel
from reelign.rewards.videoreward_template import short_template
from rewards import tiny_qwen
from rewards.clips import mp4
from rewards.tiny_qwen import SMALL, clip, tokenizer

NAMES = ("VQ", "MQ", "TA")
SETTINGS = VideoRewardSettings(
    template=short_template(NAMES), clips=SMALL, positions="multimodal", mean=(0.5, -0.5, 0.0), std=(0.5, 1.0, 2.0)
)
LENGTHS = (20, 8, 44, 12, 30, 9, 60, 24)
PROMPTS = [f"A red square moves left {number} times." for number in range(len(LENGTHS))]


def model(settings: VideoRewardSettings = SETTINGS) -> VideoRewardModel:
    return VideoRewardModel(tiny_qwen.qwen2_vl().model, tokenizer(), settings).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def reward() -> VideoReward:
    return VideoReward(model=model())


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    save_reward(model(), folder)
    return folder


def videos() -> list[Tensor]:
    return [clip(length, 48 + 4 * index, 64, seed=index) for index, length in enumerate(LENGTHS)]


def test_eight_videos_of_different_lengths_are_one_call_and_score_as_alone(reward: VideoReward) -> None:
    calls: list[int] = []
    hook = reward.model.register_forward_hook(lambda _, given, __: calls.append(len(given[0])))
    together = reward.score(videos(), PROMPTS, fps=8.0)
    assert calls == [8]
    alone = [reward.score([video], [prompt], fps=8.0) for video, prompt in zip(videos(), PROMPTS, strict=True)]
    in_threes = VideoReward(model=reward.model, batch_size=3, check=False).score(videos(), PROMPTS, fps=8.0)
    hook.remove()
    assert calls[9:] == [3, 3, 2]
    for name in NAMES:
        assert together[name].shape == (8,)
        assert together[name].dtype == torch.float32
        torch.testing.assert_close(together[name], torch.cat([each[name] for each in alone]), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(together[name], in_threes[name], rtol=1e-4, atol=1e-4)
    assert together["TA"].std() > 0


def test_clips_in_memory_are_scored_without_a_file(reward: VideoReward, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    for name in ("builtins.open", "os.open"):
        monkeypatch.setattr(name, lambda *given, **_: opened.append(given))
    reward.score([clip(8), clip(20)], PROMPTS[:2], fps=8.0)
    assert opened == []


def test_stacked_videos_score_as_listed_ones(reward: VideoReward) -> None:
    stacked = torch.stack([clip(8, seed=1), clip(8, seed=2)])
    listed = reward.score(list(stacked), PROMPTS[:2], fps=8.0)
    assert all(
        torch.equal(scores, listed[name]) for name, scores in reward.score(stacked, PROMPTS[:2], fps=8.0).items()
    )


def test_a_video_under_several_prompts_is_looked_at_once(reward: VideoReward, monkeypatch: pytest.MonkeyPatch) -> None:
    video, looks = clip(8), []
    plain = reward.model.preparer.look
    monkeypatch.setattr(reward.model.preparer, "look", lambda *given: looks.append(1) or plain(*given))
    found = reward.score([video, clip(8, seed=1), video], ["A red square", "A red square", "A blue disc"], fps=8.0)
    assert len(looks) == 2
    torch.testing.assert_close(found["VQ"][0], found["VQ"][2])
    assert (found["TA"][0] - found["TA"][2]).abs() > 1e-3


def test_a_set_number_of_frames_is_what_a_video_needs() -> None:
    eight = VideoReward(model=model(replace(SETTINGS, clips=replace(SMALL, num_frames=8))))
    assert eight.frames_needed == 8
    with pytest.raises(ReelignError, match="has 7 frames; the reward 'videoreward' needs 8"):
        eight.score([clip(7)], ["A"], fps=8.0)


def test_a_real_file_is_scored(kept: Path, tmp_path: Path) -> None:
    opened = open_reward("reelign.rewards.videoreward:VideoReward", model=str(kept))
    scores = opened.score([mp4(tmp_path, num_frames=12)], PROMPTS[:1], fps=8.0)
    assert list(scores) == list(NAMES)
    assert all(score.isfinite().all() for score in scores.values())


def test_gradients_reach_the_videos_and_change_no_score(reward: VideoReward) -> None:
    wanted = [clip(8).mul(0.9).add(0.05).requires_grad_(), clip(20, seed=1)]
    scores = reward.score(wanted, PROMPTS[:2], fps=8.0)
    plain = reward.score([video.detach() for video in wanted], PROMPTS[:2], fps=8.0)
    torch.testing.assert_close(scores["TA"].detach(), plain["TA"], rtol=1e-4, atol=1e-5)
    assert not plain["TA"].requires_grad
    scores["TA"].sum().backward()
    assert wanted[0].grad is not None
    assert wanted[0].grad.abs().sum() > 0


def test_a_model_of_ones_own_is_opened_as_it_was_kept(kept: Path, reward: VideoReward) -> None:
    opened = VideoReward(model=str(kept))
    assert opened.model.settings == SETTINGS
    assert opened.version == reward.version
    assert not any(weight.requires_grad for weight in opened.model.parameters())
    scores, expected = (each.score(videos()[:2], PROMPTS[:2], fps=8.0) for each in (opened, reward))
    assert all(torch.equal(scores[name], expected[name]) for name in NAMES)
    summed = VideoReward(model=str(kept), overall=True).score(videos()[:2], PROMPTS[:2], fps=8.0)
    torch.testing.assert_close(summed["overall"], expected["VQ"] + expected["MQ"] + expected["TA"])


def test_dimensions_of_ones_own(tmp_path: Path) -> None:
    names = ("TA", "colour")
    of = model(VideoRewardSettings(dimensions=names, template=short_template(names), head_width=2, clips=SMALL))
    save_reward(of, tmp_path)
    opened = VideoReward(model=str(tmp_path))
    assert opened.dimensions == names
    assert list(opened.score([clip(8)], ["A red square"], fps=8.0)) == list(names)


def change(kept: Path, folder: Path, edit: Callable[[dict[str, Any]], None]) -> str:
    """A copy of the kept model with another reward.json."""
    for file in kept.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    held = json.loads((folder / "reward.json").read_text())
    edit(held)
    (folder / "reward.json").write_text(json.dumps(held))
    return str(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda held: held["settings"].update(positions="sequential"), r"its test clip .*expected was"),
        (lambda held: held["settings"].update(head_width=3), "in another shape the weight head.weight"),
        (lambda held: held["settings"].pop("positions"), "in the setting positions"),
        (lambda held: held["settings"].update(colour=1), "in the setting colour"),
        (lambda held: held.update(format=2), "is of format 2; this version reads 1"),
        (lambda held: held.pop("settings"), "cannot be read"),
    ],
)
def test_a_kept_model_that_would_score_otherwise_is_refused(
    kept: Path, tmp_path: Path, edit: Callable[[dict[str, Any]], None], message: str
) -> None:
    with pytest.raises(ReelignError, match=message):
        VideoReward(model=change(kept, tmp_path, edit))


def test_damaged_weights_are_refused(kept: Path, tmp_path: Path) -> None:
    folder = change(kept, tmp_path, lambda held: None)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({key: value for key, value in weights.items() if key != "reward_tokens"}, tmp_path / "model.safetensors")
    with pytest.raises(ReelignError, match="lacks the weight reward_tokens"):
        VideoReward(model=folder)
    weights["head.weight"] = torch.full_like(weights["head.weight"], torch.nan)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ReelignError, match=r"its test clip .*nan"):
        VideoReward(model=folder)


def test_scores_that_are_known_are_asked_for(kept: Path) -> None:
    with pytest.raises(ReelignError, match="expected was 7"):
        VideoReward(model=str(kept), expected_scores={"VQ": 7.0, "MQ": 7.0, "TA": 7.0})


def test_lora_is_not_lost_in_saving(tmp_path: Path) -> None:
    of = model()
    inject_adapter_in_model(LoraConfig(target_modules=["q_proj"]), of.backbone.language_model)
    with pytest.raises(ReelignError, match="holds LoRA beside its weights"):
        save_reward(of, tmp_path)
    assert not (tmp_path / "reward.json").exists()


def test_what_cannot_be_scored_is_refused(reward: VideoReward) -> None:
    with pytest.raises(ReelignError, match="no frame rate was given"):
        reward.score([clip(8)], ["A"])
    with pytest.raises(ReelignError, match="has 1 frames; the reward 'videoreward' needs 2"):
        reward.score([clip(8), clip(1)], ["A", "B"], fps=8.0)
    with pytest.raises(ReelignError, match=r"special token <\|VQ_reward\|>"):
        reward.score([clip(8)], ["A <|VQ_reward|>"], fps=8.0)
    with pytest.raises(ReelignError, match="batch_size is 0"):
        VideoReward(model=reward.model, batch_size=0)
    with pytest.raises(ReelignError, match="2 videos and 1 prompts"):
        reward.score([clip(8), clip(8)], ["A"], fps=8.0)


def test_the_version_changes_with_whatever_changes_scores(reward: VideoReward) -> None:
    others = [replace(SETTINGS, positions="sequential"), replace(SETTINGS, mean=(), std=())]
    versions = {VideoReward(model=model(settings), check=False).version for settings in others}
    versions |= {reward.version, VideoReward(model=reward.model, normalise=False, check=False).version}
    assert len(versions) == 4
