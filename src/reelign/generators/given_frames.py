"""Frames that a clip goes on from, held among the latents: put in for the denoiser, pointed at by the velocity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reelign.diffusion.flow import per_sample

SMALLEST_SIGMA = 1e-6
"""Below it what is given has no noise left to point away from."""


def first_frame_mask(shape: Sequence[int], device: torch.device | str) -> Tensor:
    """(B, 1, F, H, W) bool for latents of `shape` (B, C, F, H, W), true at the first latent frame."""
    mask = torch.zeros((shape[0], 1, *shape[2:]), dtype=torch.bool, device=device)
    mask[:, :, 0] = True
    return mask


def hold(noisy_latents: Tensor, given: Tensor, mask: Tensor) -> Tensor:
    """Noisy latents (B, C, F, H, W) with those that are given, broadcastable to them, where the mask is true."""
    return torch.where(mask, given.to(noisy_latents), noisy_latents)


def point_at(velocity: Tensor, noisy_latents: Tensor, given: Tensor, mask: Tensor, sigma: Tensor) -> Tensor:
    """The velocity that leads straight to what is given where the mask is true: (noisy - given) / sigma, sigma (B,)."""
    level = per_sample(sigma.clamp(min=SMALLEST_SIGMA), noisy_latents)
    return torch.where(mask, (noisy_latents - given.to(noisy_latents)) / level, velocity)
