"""Reward gradients: a reward's own derivative as the loss, weighted over dimensions, capped, and held near a reference.

    last K steps     maximise E[r(video(θ, noise, prompt), prompt)]       DRaFT (arXiv:2309.17400), eq. 1; VADER
                                                                          (arXiv:2407.08737); AlignProp (2310.03739)
    capped           minimise scale·E[max(0, cap - r)]                    ReFL (arXiv:2304.05977), eq. 6 with
                                                                          φ(r) = relu(2 - r) and λ = 10⁻³ in its code
    reference        + λ·E‖velocity_θ - velocity_ref‖²                    the KL between the two flows, up to a weight
                                                                          over sigma (DiffusionNFT, arXiv:2509.16117)

A reward has no optimum inside the data: nothing but its cap, the reference and an early stop keeps a policy from where
the reward is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardGradient:
    """Settings of `reward_gradient_loss` and of what is added to it."""

    name: Literal["reward_gradient"] = "reward_gradient"
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of the reward's dimensions in the sum that is maximised, negative where less is better; empty takes `overall`,
    or the one dimension that there is."""
    cap: float | None = None
    """A video whose weighted reward is at least this much teaches nothing more; None has no cap. In the reward's unit:
    ReFL's 2 is of ImageReward, which is about standard normal."""
    scale: float = 1.0
    """Multiplies the loss. Adam does not see it but beside an anchor; ReFL's 10⁻³ was chosen beside its denoising
    loss, VADER's 0.1 is of the aesthetic score."""
    reference: float = 0.0
    """λ of the squared distance of the policy's velocity from the reference's, at the videos that were just made."""

    def __post_init__(self) -> None:
        if self.weights and not any(self.weights.values()):
            raise ValueError(f"weights must not all be 0, got {dict(self.weights)}")
        if not self.scale > 0:
            raise ValueError(f"scale must be positive, got {self.scale}")
        if not self.reference >= 0:
            raise ValueError(f"reference must be at least 0, got {self.reference}")

    def __call__(self, reward: Tensor) -> Tensor:
        return reward_gradient_loss(reward, cap=self.cap, scale=self.scale)


def reward_gradient_loss(reward: Tensor, *, cap: float | None = None, scale: float = 1.0) -> Tensor:
    """`-scale·reward`, or with a cap `scale·max(0, cap - reward)`, of each video.

    Args:
        reward: (videos,), higher is better, with its graph.
        cap: beyond it there is no gradient.
        scale: > 0.
    Returns:
        (videos,) loss.
    """
    if reward.ndim != 1:
        raise ValueError(f"a reward must be (videos,), got {tuple(reward.shape)}")
    return -scale * reward if cap is None else scale * (cap - reward).relu()


def attenuated_mean(rewards: Tensor, places: Tensor, *, rate: float) -> Tensor:
    """The mean over frames, of which those away from the middle of the clip count for less.

    InstructVideo's temporally attenuated reward (Yuan et al. 2023, arXiv:2312.12490): the weight of a frame falls as
    exp(-rate·|place - middle|), which keeps an image reward from pulling all frames to one picture. Here the weights
    add up to 1, so that the reward keeps its unit whatever the rate.

    Args:
        rewards: (videos, frames) of single frames.
        places: (frames,) in the clip, -1 its first frame, 0 its middle, 1 its last.
        rate: >= 0; 0 is the plain mean.
    Returns:
        (videos,).
    """
    if rewards.ndim != 2 or places.shape != rewards.shape[1:]:
        raise ValueError(f"rewards must be (videos, frames), got {tuple(rewards.shape)} for {tuple(places.shape)}")
    return rewards @ (-rate * places.abs()).softmax(dim=0).to(rewards)
