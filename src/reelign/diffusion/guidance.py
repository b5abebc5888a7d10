"""Reward guidance: a sampler's velocity bent towards higher rewards on noisy latents (Flow-NRG).

Liu et al. 2025 (arXiv:2501.13918), section 4.3, with the weight w_k of each dimension set at sampling time:

    velocity - sigma / (1 - sigma) · ∇_z Σ_k w_k r_k(z, sigma, conditioning),   z the noisy latents

The velocity points to noise and sampling subtracts it, so subtracting the gradient ascends the reward. It follows from
E[noise | z] = -sigma · ∇ log p(z) and velocity = (E[noise | z] - z) / (1 - sigma): a model of p(latents)·exp(Σ w r) has
its score raised by ∇ log E[exp(Σ w r) | z]. Where r is that soft value, weights of 1 sample from the tilted data; a
reward that was trained on pairs knows it up to a scale. Every family's path is the canonical flow after rescaling, so
that the formula is the same for models of flow, epsilon and v.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reelign.diffusion.flow import latents_from_velocity, per_sample
from reelign.diffusion.samplers import VelocityFunction
from reelign.errors import ReelignError

NoisyReward = Callable[[Tensor, Tensor], Mapping[str, Tensor]]
"""(noisy_latents (B, C, F, H, W), sigma (B,)) -> {dimension: (B,)}: differentiable, higher is better."""
Weights = Mapping[str, float | Tensor]
"""Weight of each dimension, of any sign: a number for all videos, or (B,) one for each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardGuidance:
    """When a reward guides, and how hard at most."""

    max_factor: float = 10.0
    """sigma / (1 - sigma) is clipped here; near pure noise it grows without bound."""
    sigma_range: tuple[float, float] = (0.0, 1.0)
    """Noise levels outside are not guided; neither is pure noise, whose factor is infinite."""
    every: int = 1
    """Every nth of the steps within the range is guided; the others cost nothing and move nothing."""
    max_share: float = 0.0
    """What guidance adds is at most this share of the velocity, both as norms over a video; 0 sets no cap."""

    def __post_init__(self) -> None:
        if not self.max_factor > 0:
            raise ValueError(f"max_factor must be positive, got {self.max_factor}")
        low, high = self.sigma_range
        if not 0 <= low < high <= 1:
            raise ValueError(f"sigma_range must be two increasing levels in [0, 1], got {self.sigma_range}")
        if self.every < 1:
            raise ValueError(f"every must be at least 1, got {self.every}")
        if not self.max_share >= 0:
            raise ValueError(f"max_share must be at least 0, got {self.max_share}")

    def guided_steps(self, sigmas: Tensor) -> list[bool]:
        """Which steps of a schedule (steps + 1,) are guided, by the level that they start from."""
        low, high = self.sigma_range
        within = [low <= level <= high and level < 1 for level in sigmas[:-1].tolist()]
        place = 0
        found = []
        for inside in within:
            found.append(inside and place % self.every == 0)
            place += inside
        return found


@dataclass
class GuidanceLog:
    """What happened while videos were guided, for a message at the end."""

    gradients: int = 0
    """Of single videos."""
    skipped: list[tuple[int, int]] = field(default_factory=list)
    """(step, row) whose gradient was not finite; that video was not guided in that step."""
    left: dict[int, int] = field(default_factory=dict)
    """Row -> the first step in which its latents, but for guidance within the data's range, left it."""

    def sentences(self) -> list[str]:
        """What was skipped and what left the data's range, a sentence each; empty where nothing was."""
        found = []
        if self.skipped:
            rows = ", ".join(str(row) for row in sorted({row for _, row in self.skipped}))
            found.append(
                f"{len(self.skipped)} of {self.gradients} reward gradients were not finite and were skipped, "
                f"the first in step {self.skipped[0][0] + 1} (videos {rows} of the batch)."
            )
        if self.left:
            first = min(self.left.values())
            found.append(
                f"Reward guidance drove the latents of {len(self.left)} video{'s' * (len(self.left) > 1)} out of the "
                f"data's range, first in step {first + 1}: smaller weights, or guidance.max_share, keep them within."
            )
        return found

    def warn(self) -> None:
        """Say it as Python warnings."""
        for sentence in self.sentences():
            warnings.warn(sentence, stacklevel=3)


def guidance_factor(sigma: Tensor, *, max_factor: float) -> Tensor:
    """sigma / (1 - sigma) clipped at `max_factor`, of any shape; 0 at pure noise, which is not guided."""
    factor = (sigma / (1 - sigma)).clamp(max=max_factor)
    return torch.where(sigma < 1, factor, 0.0)


def reward_gradient(reward: NoisyReward, noisy_latents: Tensor, sigma: Tensor, weights: Weights) -> Tensor:
    """∇_z Σ_k w_k r_k(z, sigma) of each video, fp32 of the latents' shape; its graph ends at the latents.

    Raises:
        ReelignError: a weight of a dimension that the reward lacks.
    """
    with torch.enable_grad():
        leaf = noisy_latents.detach().float().requires_grad_(True)
        rewards = reward(leaf, sigma)
        check_dimensions(weights, rewards)
        total = torch.stack([(rewards[name].float() * weight).sum() for name, weight in weights.items()]).sum()
        (gradient,) = torch.autograd.grad(total, leaf)
    return gradient


def check_dimensions(weights: Mapping[str, object], dimensions: Mapping[str, object] | tuple[str, ...]) -> None:
    """Refuse weights for what a reward does not score."""
    for name in weights:
        if name not in dimensions:
            known = ", ".join(dimensions)
            raise ReelignError(
                f"The reward has no dimension {name}; it has {known}.", f"Weigh some of {known}, as in VQ=0.5,MQ=1."
            )


def guided(velocity: Tensor, gradient: Tensor, sigma: Tensor, settings: RewardGuidance) -> Tensor:
    """`velocity - factor(sigma)·gradient`, with the cap on what is taken off.

    Args:
        velocity: (B, ...) with classifier-free guidance already in it.
        gradient: (B, ...) of the weighted rewards; 0 where a video is not guided.
        sigma: (B,).
    """
    term = per_sample(guidance_factor(sigma, max_factor=settings.max_factor), gradient) * gradient
    if settings.max_share:
        norm, allowed = (each.float().flatten(1).norm(dim=1) for each in (term, velocity))
        share = (settings.max_share * allowed / norm.clamp(min=1e-12)).clamp(max=1)
        term = per_sample(share, term) * term
    return velocity - term


def steered(
    velocity: VelocityFunction,
    reward: NoisyReward,
    weights: Weights,
    sigmas: Tensor,
    settings: RewardGuidance,
    *,
    log: GuidanceLog,
    largest: float | None = None,
) -> VelocityFunction:
    """A sampler's velocity with reward guidance in it.

    Args:
        velocity: of the model, classifier-free guidance included; the gradient does not enter it.
        reward: of the same videos.
        weights: of its dimensions.
        sigmas: (steps + 1,) the sampler's schedule, by which steps are counted.
        log: takes what is skipped and what leaves the data's range.
        largest: root mean square of the clean latents above which a video is out of the data's range; None sets none.
    """
    chosen, levels = settings.guided_steps(sigmas), sigmas[:-1]

    def bent(noisy_latents: Tensor, sigma: Tensor) -> Tensor:
        """The velocity (B, C, F, H, W) in fp32, less the reward's pull where this step is guided."""
        own = velocity(noisy_latents, sigma).float()
        step = int((levels - sigma[0].to(levels)).abs().argmin())
        if not chosen[step]:
            return own
        gradient = reward_gradient(reward, noisy_latents, sigma, weights)
        finite = torch.isfinite(gradient.flatten(1)).all(dim=1)
        log.gradients += len(finite)
        log.skipped += [(step, row) for row in (~finite).nonzero()[:, 0].tolist()]
        # Not by multiplying: 0 · NaN is NaN.
        gradient = torch.where(per_sample(finite, gradient), gradient, 0.0)
        found = guided(own, gradient, sigma, settings)
        if largest is not None:
            _note_range(log, step, noisy_latents, own, found, sigma, largest)
        return found

    return bent


def _note_range(
    log: GuidanceLog, step: int, noisy: Tensor, own: Tensor, found: Tensor, sigma: Tensor, largest: float
) -> None:
    """Whose estimate of the clean latents is too large with guidance and was not without it."""

    def size(velocity: Tensor) -> Tensor:
        return latents_from_velocity(noisy, velocity, sigma).flatten(1).square().mean(dim=1).sqrt()

    for row in ((size(found) > largest) & (size(own) <= largest)).nonzero()[:, 0].tolist():
        log.left.setdefault(row, step)
