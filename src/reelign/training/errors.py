"""The primitive under every objective: per-video velocity errors at shared draws."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reelign.diffusion.flow import add_noise, velocity_target
from reelign.diffusion.noise_levels import Distribution, sample_sigmas
from reelign.diffusion.paths import FlowPath
from reelign.generators.base import Conditioning
from reelign.training.policy import Policy, Weights


@dataclass(frozen=True, slots=True)
class Draw:
    """One (sigma, noise) sample per video."""

    sigma: Tensor
    """(B,) in (0, 1)."""
    noise: Tensor
    """(B, C, F, H, W) standard normal."""

    def __getitem__(self, rows: slice | Tensor) -> Draw:
        return Draw(self.sigma[rows], self.noise[rows])

    def repeat(self, times: int) -> Draw:
        """Each draw `times` times in a row: what a chosen video and its rejected one share."""
        return Draw(self.sigma.repeat_interleave(times), self.noise.repeat_interleave(times, dim=0))


def make_draw(
    shape: Sequence[int],
    *,
    path: FlowPath,
    distribution: Distribution,
    shift: float,
    generator: torch.Generator,
    device: torch.device,
) -> Draw:
    """Draw sigma and noise for latents of `shape` (B, C, F, H, W), on the CPU for the same numbers on any device.

    `distribution` and `shift` say which quantiles of the family's own noise levels are drawn: on a flow they are the
    levels, on a DDPM table the share of its timesteps, so that every level is one that the model knows.
    """
    sigma = path.training_sigmas(sample_sigmas(shape[0], distribution, shift=shift, generator=generator))
    noise = torch.randn(tuple(shape), generator=generator)
    return Draw(sigma.to(device), noise.to(device))


def velocity_errors(
    policy: Policy,
    latents: Tensor,
    conditioning: Conditioning,
    draw: Draw,
    *,
    weights: Sequence[Weights] = ("policy", "reference"),
    weight: Tensor | None = None,
    mask: Tensor | None = None,
) -> dict[Weights, Tensor]:
    """Mean squared velocity error of each video under each of the named weights, at the same draw.

    Args:
        policy: whose velocity is asked; only "policy" carries gradients.
        latents: (B, C, F, H, W) clean latents.
        conditioning: of the B videos, on any device.
        draw: sigma (B,) and noise, shared by all weights (and by the two sides of a pair, if the caller repeats it).
        weights: which weights to run.
        weight: (B,) weight of each velocity error; None is that of the family's native loss at the draw's sigma, under
            which the error is the one that the family was pretrained on.
        mask: broadcastable to the latents, 1 where the error counts; the mean runs over those elements. None is all.
            With one axis more in front, (S, B, C, F, H, W), it holds S segments, all from the same forward. Given
            frames of image-to-video never count.
    Returns:
        {name: (B,) fp32 error}, (B, S) of segments.
    """
    noisy, conditioning = add_noise(latents, draw.noise, draw.sigma), conditioning.to(latents.device)
    target = velocity_target(latents, draw.noise).float()
    weight = policy.generator.path.native_weight(draw.sigma) if weight is None else weight
    mask = _made(policy, latents, conditioning, mask)
    errors: dict[Weights, Tensor] = {}
    for name in weights:
        with contextlib.nullcontext() if name == "policy" else torch.no_grad(), policy.using(name):
            predicted = policy.generator.velocity(noisy, draw.sigma, conditioning)
        squared = (predicted.float() - target).square()
        mean = _masked_mean(squared, mask)
        errors[name] = mean * weight.float().reshape(-1, *([1] * (mean.ndim - 1)))
    return errors


def base_distance(policy: Policy, latents: Tensor, conditioning: Conditioning, draw: Draw) -> Tensor:
    """How far the policy's velocity is from the first base's: mean ‖v_policy - v_base‖² of each video, (B,) fp32.

    In expectation over draws it is the KL divergence between the two sampling processes but for a weight of sigma; it
    carries gradients of the policy. Arguments as for `velocity_errors`.
    """
    noisy, conditioning = add_noise(latents, draw.noise, draw.sigma), conditioning.to(latents.device)
    own = policy.generator.velocity(noisy, draw.sigma, conditioning)
    with torch.no_grad(), policy.using("base"):
        base = policy.generator.velocity(noisy, draw.sigma, conditioning)
    return _masked_mean((own.float() - base.float()).square(), _made(policy, latents, conditioning, None))


def _made(policy: Policy, latents: Tensor, conditioning: Conditioning, mask: Tensor | None) -> Tensor | None:
    """The mask without what the conditioning gives; None is all."""
    given = policy.generator.clean_mask(latents.shape, conditioning)
    if given is None:
        return mask
    return ~given if mask is None else mask * ~given


def _masked_mean(squared: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return squared.flatten(1).mean(dim=1)
    if mask.ndim > squared.ndim:
        return torch.stack([_masked_mean(squared, segment) for segment in mask], dim=1)
    counted = mask.expand_as(squared).float().flatten(1)
    total = counted.sum(dim=1)
    if bool((total == 0).any()):
        raise ValueError("the mask leaves a video without a single element that counts")
    return (squared.flatten(1) * counted).sum(dim=1) / total
