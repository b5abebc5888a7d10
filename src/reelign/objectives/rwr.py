"""Reward-weighted regression: the denoising error, weighted by how good the video is among its group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class RWR:
    """Settings of `rwr_loss` and `reward_weights`."""

    name: Literal["rwr"] = "rwr"
    temperature: float = 1.0
    """Of the softmax over a group's rewards, in their unit; smaller looks at the best alone, larger is plain SFT.

    1 is Flow-RWR's, which absorbs it into z-scored rewards (arXiv:2501.13918). Standings out of votes lie in [-1, 1]:
    at 1 a video that beats all others then weighs 7.4 times one that loses to all."""
    cap: float = 5.0
    """Largest weight of a video, so that one lucky reward does not become the batch; the mean weight is 1."""

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if not self.cap >= 1:
            raise ValueError(f"cap must be at least 1, the mean weight, got {self.cap}")

    def weights(self, rewards: Tensor) -> Tensor:
        return reward_weights(rewards, temperature=self.temperature, cap=self.cap)

    def __call__(self, error: Tensor, weight: Tensor) -> Tensor:
        return rwr_loss(error, weight)


def rwr_loss(error: Tensor, weight: Tensor) -> Tensor:
    """`weight · error` of each sample.

    Peters & Schaal 2007; Flow-RWR (Liu et al. 2025, arXiv:2501.13918): E exp(r/temperature)·‖v - v_θ‖². Its
    optimum is p(x)·exp(r/temperature); there is no reference, so the data are the only brake.

    Args:
        error: (samples,) mean squared error of the policy's native target.
        weight: (samples,) >= 0, from `reward_weights`. Raw rewards are refused: a negative one would train away from
            its video without bound.
    Returns:
        (samples,) loss.
    """
    if error.ndim != 1 or weight.shape != error.shape:
        raise ValueError(
            f"error and weight must both be (samples,), got {tuple(error.shape)} and {tuple(weight.shape)}"
        )
    if not bool((weight >= 0).all()):
        raise ValueError("a weight must be at least 0; take weights from reward_weights, never raw rewards")
    return weight * error


def reward_weights(rewards: Tensor, *, temperature: float, cap: float) -> Tensor:
    """Weights of mean 1 in each group: the softmax over its candidates times their number, then capped.

    Args:
        rewards: (groups, candidates), higher is better; any offset, since a softmax does not see it.
        temperature: > 0, in the rewards' unit.
        cap: largest weight; what it cuts off is not handed to the others, so the mean falls below 1 where it acts.
    Returns:
        (groups, candidates); all 1 in a group of equal rewards.
    """
    if rewards.ndim != 2:
        raise ValueError(f"rewards must be (groups, candidates), got {tuple(rewards.shape)}")
    if not bool(torch.isfinite(rewards).all()):
        raise ValueError("a reward is not finite; leave its video out")
    # torch's softmax subtracts the maximum first, so that no reward overflows.
    weights = (rewards / temperature).softmax(dim=1) * rewards.shape[1]
    return weights.clamp(max=cap)
