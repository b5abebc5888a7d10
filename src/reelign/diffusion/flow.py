"""The canonical flow: one form for every model's path.

A path x = alpha·latents + scale·noise becomes a flow path after rescaling (docs/architecture.md, the canonical form):

    z = x / (alpha + scale),   sigma = scale / (alpha + scale),   velocity = noise - latents

so that z = (1 - sigma)·latents + sigma·noise, and sigma = 1 is pure noise. Rectified flow (Liu et al. 2022,
arXiv:2209.03003; Lipman et al. 2022, arXiv:2210.02747) in the convention of SD3 and Wan. A DDIM step (Song et al. 2020,
arXiv:2010.02502, eq. 12 with no noise) from one level to another is the Euler step z' = z + (sigma' - sigma)·velocity.

What a model puts out in place of the velocity is in `predictions`; where its path starts, ends and is trained, `paths`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Shape (B,) values so that they broadcast over a (B, ...) tensor."""
    if values.shape != like.shape[:1]:
        raise ValueError(f"expected one value per sample, ({like.shape[0]},), got {tuple(values.shape)}")
    return values.reshape(-1, *([1] * (like.ndim - 1)))


def add_noise(latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """`(1 - sigma)·latents + sigma·noise`; latents and noise (B, ...), sigma (B,) in [0, 1]."""
    level = per_sample(sigma, latents)
    return (1 - level) * latents + level * noise


def velocity_target(latents: Tensor, noise: Tensor) -> Tensor:
    """What a flow model predicts: `noise - latents`."""
    return noise - latents


def latents_from_velocity(noisy_latents: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """The one-step estimate of the clean latents, `noisy - sigma·velocity`."""
    return noisy_latents - per_sample(sigma, noisy_latents) * velocity


def noise_from_velocity(noisy_latents: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """The one-step estimate of the noise, `noisy + (1 - sigma)·velocity`."""
    return noisy_latents + (1 - per_sample(sigma, noisy_latents)) * velocity


def canonical_sigma(alpha: Tensor, scale: Tensor) -> Tensor:
    """Canonical noise level of a path x = alpha·latents + scale·noise: `scale / (alpha + scale)`, in [0, 1]."""
    return scale / (alpha + scale)


def unit_variance(sigma: Tensor) -> tuple[Tensor, Tensor]:
    """(alpha, scale) with alpha² + scale² = 1 at a canonical level; any shape, (1, 0) at sigma 0 and (0, 1) at 1.

    This is the path of DDPM tables (alpha = √ᾱ), and after EDM's scaling of the input by 1 / √(1 + σ²) its path too.
    """
    norm = torch.hypot(1 - sigma, sigma)
    return (1 - sigma) / norm, sigma / norm
