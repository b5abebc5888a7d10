"""Reward-weighted regression against softmax weights worked in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reelign.objectives import RWR, reward_weights, rwr_loss

REWARDS = np.random.default_rng(0).normal(size=(5, 4))


@pytest.mark.parametrize("temperature", [0.2, 1.0, 7.0])
def test_weights_are_the_softmax_of_the_group_with_mean_1(temperature: float) -> None:
    powers = np.exp(REWARDS / temperature)
    expected = powers / powers.mean(axis=1, keepdims=True)
    weights = reward_weights(torch.tensor(REWARDS), temperature=temperature, cap=100.0)
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-12)
    torch.testing.assert_close(weights.mean(dim=1), torch.ones(5).double())


def test_the_cap_cuts_and_nothing_else() -> None:
    rewards = torch.tensor([[0.0, 0.0, 0.0, math.log(9.0)]])
    assert reward_weights(rewards, temperature=1.0, cap=10.0).tolist()[0] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 3])
    assert reward_weights(rewards, temperature=1.0, cap=2.0).tolist()[0] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 2])


def test_equal_rewards_are_plain_sft_and_the_scale_of_rewards_has_no_origin() -> None:
    assert torch.equal(reward_weights(torch.full((2, 3), -7.0), temperature=0.1, cap=5.0), torch.ones(2, 3))
    rewards = torch.tensor(REWARDS)
    shifted = reward_weights(rewards - 1e4, temperature=1.0, cap=5.0)
    torch.testing.assert_close(shifted, reward_weights(rewards, temperature=1.0, cap=5.0))


def test_huge_rewards_stay_finite() -> None:
    weights = reward_weights(torch.tensor([[1e30, 0.0], [-1e30, 0.0]]), temperature=1e-3, cap=5.0)
    assert weights.tolist() == [[2.0, 0.0], [0.0, 2.0]]


def test_loss_and_its_gradient_are_the_weight() -> None:
    error, weight = torch.tensor([0.2, 0.7], requires_grad=True), torch.tensor([0.5, 1.5])
    loss = RWR()(error, weight)
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([0.1, 1.05])
    assert torch.equal(error.grad, weight)


def test_no_weight_ever_trains_away_from_a_video() -> None:
    weights = RWR(temperature=0.1).weights(torch.tensor(REWARDS))
    assert (weights >= 0).all()
    with pytest.raises(ValueError, match="never raw rewards"):
        rwr_loss(torch.ones(4), torch.tensor(REWARDS[0]))


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(groups, candidates\)"):
        reward_weights(torch.zeros(4), temperature=1.0, cap=5.0)
    with pytest.raises(ValueError, match="not finite"):
        reward_weights(torch.tensor([[0.0, math.nan]]), temperature=1.0, cap=5.0)
    with pytest.raises(ValueError, match=r"must both be \(samples,\)"):
        rwr_loss(torch.zeros(4), torch.zeros(3))
    with pytest.raises(ValueError, match="temperature must be positive"):
        RWR(temperature=0.0)
    with pytest.raises(ValueError, match="cap must be at least 1"):
        RWR(cap=0.5)
