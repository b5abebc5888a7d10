"""Rewards over the joints of long clips, on videos whose frames say their own number."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.compose import Composed
from reelign.rewards.joints import Joints
from reelign.rewards.opening import open_reward
from rewards.rewards import Light


def numbered(count: int, videos: int = 2) -> Tensor:
    """Frame f of video v is f + 100 v everywhere."""
    frames = torch.arange(float(count)).expand(videos, count) + 100.0 * torch.arange(videos)[:, None]
    return frames[:, :, None, None, None].expand(-1, -1, 3, 16, 16) + 1.0


def joints(**settings: object) -> Joints:
    return Joints(**{"reward": Light(), "dimension": "VQ", "segments": 3, "segment_frames": 5, **settings})  # type: ignore[arg-type]


def test_windows_over_the_joints_are_scored_and_their_mean_taken() -> None:
    # Of 13 frames the joints are 4 and 8: two frames over each are 4 5 and 8 9; inside 2 3, 6 7 and 10 11.
    found = joints().score(numbered(13), ["", ""])
    assert found.keys() == {"across"}
    assert found["across"].tolist() == pytest.approx([1 + 6.5, 101 + 6.5])
    assert joints(which="last").score(numbered(13), ["", ""])["across"].tolist() == pytest.approx([9.5, 109.5])
    compared = joints(compare=True, frames=2).score(list(numbered(13)), ["", ""])
    assert compared["within"].tolist() == pytest.approx([7.5, 107.5])
    assert compared["excess"].tolist() == pytest.approx([0.0, 0.0])
    wider = joints(frames=4, which="last").score(numbered(13), ["", ""])
    assert wider["across"].tolist() == pytest.approx([9.5, 109.5])


def test_what_it_reads_is_enough() -> None:
    reward = joints(frames=3, compare=True)
    read = reward.frames_read(13)
    assert read == list(range(1, 12))
    whole = numbered(13)
    found, again = reward.score(whole, ["", ""]), reward.score(whole[:, read], ["", ""])
    assert all(torch.equal(found[name], again[name]) for name in found)
    assert joints().frames_read(13) == [4, 5, 8, 9]
    assert joints().frames_needed == 4


def test_gradient_stays_on_the_windows() -> None:
    video = numbered(13, 1).clone().requires_grad_()
    joints(which="last").score(video, [""])["across"].sum().backward()
    assert video.grad is not None
    assert video.grad.flatten(2).any(dim=2)[0].nonzero().flatten().tolist() == [8, 9]


def test_a_joint_that_breaks_stands_out() -> None:
    smooth = torch.rand(1, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).expand(1, 13, 3, 16, 16).clone()
    broken = smooth.clone()
    broken[:, 5:] = 1 - broken[:, 5:]
    reward = open_reward("joints", reward="frame-consistency", segments=3, segment_frames=5, compare=True)
    assert reward.name == "joints-frame-consistency"
    assert reward.differentiable
    assert reward.score(smooth, [""])["excess"].tolist() == pytest.approx([0.0], abs=1e-6)
    found = reward.score(broken, [""])
    # One of two joints breaks: 1 less half the mean change.
    change = float((broken[:, 5] - broken[:, 4]).abs().mean())
    assert found["excess"].tolist() == pytest.approx([-change / 2], abs=1e-6)
    assert found["within"].tolist() == pytest.approx([1.0], abs=1e-6)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ReelignError, match="A clip of 12 frames is not of 3 segments of 5 frames, which have 13"):
        joints().score(numbered(12), ["", ""])
    with pytest.raises(ReelignError, match="Joints of 1 segments"):
        joints(segments=1)
    with pytest.raises(ReelignError, match="Set dimension to one of VQ, TA"):
        joints(dimension="")
    with pytest.raises(ReelignError, match="window of 5 frames"):
        joints(frames=5)


def test_as_a_part_of_others_it_knows_its_clips_too() -> None:
    part = {"reward": joints(), "weights": {"across": 1.0}, "name": "joints"}
    composed = Composed(parts=[part, {"reward": "frame-consistency", "weights": {"frame_consistency": 0.5}}])
    assert composed.frames_read(13) is None
    with pytest.raises(ReelignError, match="A clip of 12 frames is not of 3 segments"):
        composed.frames_read(12)
    found = composed.score(numbered(13), ["", ""])
    assert found["joints.across"].tolist() == pytest.approx([7.5, 107.5])
