"""Proxies against values worked out by hand; their direction; where a gradient goes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards import open_reward
from reelign.rewards.proxy_measures import colour, dynamic_degree, frame_consistency, luma, sharpness, steadiness
from rewards.textures import moving

NAMES = ("dynamic-degree", "frame-consistency", "flicker", "sharpness", "colour")


def plain(*levels: float, size: int = 16) -> Tensor:
    """(1, F, 3, size, size): a grey level a frame."""
    return torch.tensor(levels).view(1, -1, 1, 1, 1).expand(-1, -1, 3, size, size).contiguous()


def test_luma_of_white_is_one() -> None:
    torch.testing.assert_close(luma(torch.ones(2, 3, 4, 4)), torch.ones(2, 4, 4))
    assert luma(torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1)).item() == pytest.approx(0.7152)


def test_dynamic_degree_is_the_shift_in_shorter_sides() -> None:
    video = moving(64, 96, right=3.0, down=4.0, frames=3)
    assert dynamic_degree(video[None]).item() == pytest.approx(5 / 64, rel=0.05)
    assert dynamic_degree(torch.stack([video[0]] * 3)[None]).item() == pytest.approx(0, abs=1e-5)
    large = torch.nn.functional.interpolate(video, scale_factor=3, mode="bicubic").clamp(0, 1)
    assert dynamic_degree(large[None]).item() == pytest.approx(5 / 64, rel=0.08), "size does not matter"


def test_a_small_part_that_moves_counts() -> None:
    video = moving(64, 64, right=2.0, down=0.0, frames=2)
    background = video[:1].expand(2, -1, -1, -1).clone()
    background[:, :, 16:40, 16:40] = video[:, :, 16:40, 16:40]
    assert dynamic_degree(background[None]).item() == pytest.approx(2 / 64, rel=0.15)


def test_frame_consistency_is_one_less_the_mean_difference() -> None:
    assert frame_consistency(plain(0.2, 0.5, 0.4)).item() == pytest.approx(1 - (0.3 + 0.1) / 2)
    assert frame_consistency(plain(0.3, 0.3)).item() == 1


def test_flicker_is_told_from_a_fade() -> None:
    assert steadiness(plain(0.4, 0.6, 0.4, 0.6)).item() == pytest.approx(-0.1)
    assert steadiness(plain(0.1, 0.2, 0.3, 0.4)).item() == pytest.approx(0, abs=1e-6)
    still, shaken = moving(64, 64, right=1.0, down=0.0, frames=5), plain(0.45, 0.55, 0.45, 0.55, 0.45)
    assert steadiness(still[None]) > steadiness(shaken) + 0.04


def test_sharpness_of_a_chessboard_and_of_its_blur() -> None:
    board = ((torch.arange(16)[:, None] + torch.arange(16)) % 2).float().expand(1, 1, 3, 16, 16)
    # Each pixel and its four neighbours: 4 - 0 or 0 - 4 in turn, of variance 16.
    assert sharpness(board).item() == pytest.approx(16)
    video = moving(64, 64, right=0.0, down=0.0, frames=1)[None]
    blurred = torch.nn.functional.avg_pool2d(video[0], 5, stride=1)[None]
    assert sharpness(blurred) < 0.5 * sharpness(video)
    assert sharpness(plain(0.3)).item() == 0


def test_colour_of_grey_of_two_colours_and_of_extremes() -> None:
    grey = colour(plain(0.25))
    assert [grey[name].item() for name in ("colourfulness", "contrast", "exposure")] == pytest.approx([0, 0, 0.5])
    halves = torch.zeros(1, 1, 3, 16, 16)
    halves[:, :, 0, :, :8] = 1  # red beside black: rg and yb are 1 and 0.5 on half the frame
    expected = (0.5**2 + 0.25**2) ** 0.5 + 0.3 * (0.5**2 + 0.25**2) ** 0.5
    assert colour(halves)["colourfulness"].item() == pytest.approx(expected)
    stripes = torch.cat([plain(0.0), plain(1.0)], dim=-1)
    assert colour(stripes)["contrast"].item() == pytest.approx(0.5)
    assert colour(plain(1.0))["exposure"].item() == pytest.approx(0)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_a_reward_of_any_sizes(name: str) -> None:
    reward = open_reward(name)
    videos = [moving(32, 48, right=1.0, down=0.5, frames=4), moving(24, 24, right=0.0, down=0.0, frames=3)]
    found = reward.score(videos, ["a cat", "a dog"], fps=8)
    assert tuple(found) == reward.dimensions == reward.card.dimensions
    for number, video in enumerate(videos):
        alone = reward.score(video[None], ["other words"])
        for dimension in reward.dimensions:
            torch.testing.assert_close(found[dimension][number], alone[dimension][0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_agree_with_differences(name: str) -> None:
    reward = open_reward(name)
    assert reward.differentiable
    video = moving(32, 32, right=0.6, down=0.3, frames=3) * torch.tensor([1.0, 0.8, 0.6]).view(3, 1, 1)
    direction = moving(32, 32, right=-1.0, down=2.0, frames=3) - 0.5
    for dimension in reward.dimensions:
        leaf = video.clone().requires_grad_()
        reward.score(leaf[None], [""])[dimension].sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert leaf.grad.abs().sum() > 0
        ahead, behind = (
            reward.score((video + sign * 3e-4 * direction)[None], [""])[dimension].item() for sign in (1, -1)
        )
        assert (leaf.grad * direction).sum().item() == pytest.approx((ahead - behind) / 6e-4, rel=0.15, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_still_grey_video_has_a_finite_gradient(name: str) -> None:
    video = plain(0.5, 0.5, 0.5).requires_grad_()
    sum(each.sum() for each in open_reward(name).score(video, [""]).values()).backward()
    assert video.grad is not None
    assert video.grad.isfinite().all()


def test_what_cannot_be_measured_is_refused() -> None:
    flicker = open_reward("flicker")
    with pytest.raises(ReelignError, match="has 2 frames; the reward 'flicker' needs 3"):
        flicker.score(plain(0.1, 0.2), [""])
    with pytest.raises(ReelignError, match="frames of 16 px or more"):
        flicker.score(plain(0.1, 0.2, 0.3, size=8), [""])
    with pytest.raises(ReelignError, match="1 videos and 2 prompts"):
        flicker.score(plain(0.1, 0.2, 0.3), ["a", "b"])
