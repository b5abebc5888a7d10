"""Composed rewards by hand; each opened and asked once; nothing goes through a file unless it shall."""

from __future__ import annotations

import builtins
import io
import os
from typing import Any

import pytest
import torch

import reelign.rewards.codec
from reelign.errors import ReelignError
from reelign.rewards import open_reward
from reelign.rewards.codec import Compressed, codec_roundtrip
from reelign.rewards.compose import Composed, Part
from reelign.video import read_video, write_video
from rewards.rewards import Light
from rewards.textures import moving

NAN = float("nan")
LIGHT = "rewards.rewards:Light"


def grey(*levels: float) -> torch.Tensor:
    return torch.tensor(levels).view(-1, 1, 1, 1, 1).expand(-1, 4, 3, 16, 16).contiguous()


def test_the_sum_by_hand() -> None:
    reward = open_reward(
        "composed",
        parts=[
            {"reward": LIGHT, "weights": {"VQ": 2, "TA": 0.5}, "normalise": {"VQ": [0.5, 0.1], "TA": [3, 1]}},
            {"reward": "frame-consistency", "weights": {"frame_consistency": -1.0}, "name": "still"},
        ],
    )
    assert reward.dimensions == ("overall", "light.VQ", "light.TA", "still.frame_consistency")
    found = reward.score(grey(0.6, 0.0), ["four", "five!"])
    torch.testing.assert_close(found["light.VQ"], torch.tensor([1.0, NAN]), equal_nan=True)
    torch.testing.assert_close(found["light.TA"], torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(found["overall"], torch.tensor([2 * 1 + 0.5 * 1 - 1, NAN]), equal_nan=True)
    assert reward.differentiable


def test_groups_are_the_prompts_of_a_batch_and_the_cap_comes_after() -> None:
    reward = Composed(parts=[Part(reward=Light(), weights={"VQ": 1}, normalise="group", cap=0.5)])
    found = reward.score(grey(0.2, 0.7, 0.4, 0.9), ["a", "b", "a", "b"])
    torch.testing.assert_close(found["overall"], torch.tensor([-1.0, -1.0, 0.5, 0.5]), atol=1e-4, rtol=0)


def test_a_reward_in_two_parts_is_opened_and_asked_once() -> None:
    reward = Composed(
        parts=[
            {"reward": LIGHT, "options": {"gain": 2.0}, "weights": {"VQ": 1}, "name": "one"},
            {"reward": LIGHT, "options": {"gain": 2.0}, "weights": {"TA": 1}, "name": "two"},
            {"reward": LIGHT, "options": {"gain": 4.0}, "weights": {"VQ": 1}, "name": "three"},
        ]
    )
    (_, one), (_, two), (_, three) = reward.parts
    assert isinstance(one, Light)
    assert one is two
    assert one is not three
    assert reward.score(grey(0.25), ["abc"])["overall"].item() == pytest.approx(0.5 + 3 + 1)
    assert one.calls == [1]
    video = one.seen[0]
    assert isinstance(three, Light)
    assert three.seen[0] is video, "the clip is handed over as it is"


def test_gradients_reach_the_videos() -> None:
    videos = grey(0.5, 0.6).requires_grad_()
    reward = Composed(parts=[Part(reward=Light(), weights={"VQ": 3})])
    reward.score(videos, ["a", "b"])["overall"].sum().backward()
    assert videos.grad is not None
    torch.testing.assert_close(videos.grad, torch.full_like(videos, 3 / videos[0].numel()))


def test_handing_over_a_clip_opens_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    reward = Composed(
        parts=[Part(reward=Light(), weights={"VQ": 1}), Part(reward="sharpness", weights={"sharpness": 1})]
    )

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError(f"a file was opened: {arguments}")

    videos = grey(0.5, 0.6)
    for module in (builtins, io, os):
        monkeypatch.setattr(module, "open", refuse)
    assert reward.score(videos, ["a", "b"])["overall"].shape == (2,)


def test_a_codec_in_between_shows_what_a_file_would(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    video = moving(32, 48, right=1.0, down=0.5, frames=6)
    write_video(tmp_path / "video.mp4", video, 8, crf=30)
    expected = read_video(tmp_path / "video.mp4").frames
    torch.testing.assert_close(codec_roundtrip(video[None], fps=8, crf=30), expected[None], atol=0, rtol=0)
    assert (expected - video).abs().mean() > 1e-3
    ran = []
    through = reelign.rewards.codec.codec_roundtrip
    monkeypatch.setattr(
        reelign.rewards.codec, "codec_roundtrip", lambda *given, **how: ran.append(1) or through(*given, **how)
    )
    plain, one, two = Light(), Light(gain=2.0), Light(gain=3.0)
    parts = [Part(reward=plain, weights={"VQ": 1}, name="plain")]
    parts += [
        Part(reward=each, weights={"VQ": 1}, name=name, codec_roundtrip=True, crf=30)
        for each, name in ((one, "one"), (two, "two"))
    ]
    reward = Composed(parts=parts)
    assert not reward.differentiable
    reward.score([video], ["a"], fps=8)
    torch.testing.assert_close(one.seen[0][0], expected, atol=0, rtol=0)
    assert two.seen[0] is one.seen[0]
    assert plain.seen[0][0] is video
    assert ran == [1]


def test_a_codec_needs_a_frame_rate_and_changes_the_version() -> None:
    reward = Compressed(Light())
    assert reward.version != Light.version
    with pytest.raises(ReelignError, match="needs their frame rate"):
        reward.score(grey(0.5), ["a"])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "different names, got none"),
        ([{"reward": "flicker", "weights": {"steadiness": 1}}] * 2, "different names, got flicker, flicker"),
        ([{"reward": "flicker", "weihgts": {}}], "has no 'weihgts'.*\n.*Did you mean 'weights'"),
        ([{"weights": {"VQ": 1}}], "lacks its reward or weights"),
        ([{"reward": "flicker"}], "lacks its reward or weights"),
        ([{"reward": "flicker", "weights": {}}], "has no weight.*\n.*steadiness"),
        ([{"reward": "flicker", "weights": {"VQ": 1}}], "has no dimension 'VQ'"),
        ([{"reward": "flicker", "weights": {"steadiness": "much"}}], "is 'much'"),
        ([{"reward": "flicker", "weights": {"steadiness": 1}, "normalise": "z"}], "normalised by 'z'"),
        (
            [{"reward": LIGHT, "weights": {"VQ": 1, "TA": 1}, "normalise": {"VQ": [0, 1]}}],
            "each dimension with a weight",
        ),
        ([{"reward": LIGHT, "weights": {"VQ": 1}, "normalise": {"VQ": [1]}}], "normalised by"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ReelignError, match=message):
        Composed(parts=parts)


def test_the_version_tells_what_was_composed() -> None:
    def version(**changes: Any) -> str:
        return Composed(parts=[{"reward": LIGHT, "weights": {"VQ": 1}, **changes}]).version

    assert len({version(), version(cap=1.0), version(normalise="group"), version(weights={"VQ": 2})}) == 4
    assert version() == version()
