"""The loss of reward gradients by hand, its limits and the sign of its gradient."""

from __future__ import annotations

import math

import pytest
import torch

from reelign.objectives.reward_gradient import RewardGradient, attenuated_mean, reward_gradient_loss


def test_the_loss_by_hand() -> None:
    reward = torch.tensor([0.5, -1.0, 3.0])
    torch.testing.assert_close(RewardGradient(scale=0.1)(reward), torch.tensor([-0.05, 0.1, -0.3]))
    # ReFL: 10⁻³·relu(2 - r).
    torch.testing.assert_close(RewardGradient(cap=2.0, scale=1e-3)(reward), torch.tensor([1.5e-3, 3e-3, 0.0]))


def test_the_gradient_ascends_the_reward_and_ends_at_the_cap() -> None:
    reward = torch.tensor([0.5, -1.0, 3.0], requires_grad=True)
    (free,) = torch.autograd.grad(reward_gradient_loss(reward).sum(), reward)
    assert free.tolist() == [-1, -1, -1]
    (capped,) = torch.autograd.grad(reward_gradient_loss(reward, cap=2.0, scale=0.5).sum(), reward)
    assert capped.tolist() == [-0.5, -0.5, 0]


def test_frames_away_from_the_middle_count_for_less() -> None:
    rewards = torch.tensor([[1.0, 2.0, 4.0]])
    places = torch.tensor([-1.0, 0.0, 0.5])
    assert attenuated_mean(rewards, places, rate=0).item() == pytest.approx(7 / 3)
    side, far = math.exp(-2 * 0.5), math.exp(-2 * 1.0)
    wanted = (far * 1 + 2 + side * 4) / (far + 1 + side)
    assert attenuated_mean(rewards, places, rate=2).item() == pytest.approx(wanted)
    assert attenuated_mean(rewards, places, rate=100).item() == pytest.approx(2.0)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(videos,\)"):
        reward_gradient_loss(torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"must be \(videos, frames\)"):
        attenuated_mean(torch.zeros(2, 3), torch.zeros(2), rate=1)
    for wrong in ({"scale": 0}, {"reference": -1}, {"weights": {"VQ": 0}}):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong))} must"):
            RewardGradient(**wrong)
