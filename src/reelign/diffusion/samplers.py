"""Samplers of the canonical flow."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

VelocityFunction = Callable[[Tensor, Tensor], Tensor]
"""(noisy_latents (B, C, F, H, W), sigma (B,)) -> velocity, guidance included."""


def sample_euler(
    velocity: VelocityFunction, noise: Tensor, sigmas: Tensor, *, on_step: Callable[[], None] | None = None
) -> Tensor:
    """Integrate the flow from noise to latents: `z' = z + (sigma' - sigma)·velocity(z, sigma)`.

    Args:
        velocity: the (guided) velocity.
        noise: (B, C, F, H, W) standard normal; integration runs in fp32 whatever the model's precision.
        sigmas: (steps + 1,) decreasing noise levels, from the first to the clean end (0 for a flow model).
        on_step: called after each step, for progress.
    Returns:
        (B, C, F, H, W) fp32 latents.
    """
    latents = noise.float()
    for sigma, next_sigma in itertools.pairwise(sigmas):
        level = sigma.expand(latents.shape[0])
        latents = latents + (next_sigma - sigma) * velocity(latents, level).float()
        if on_step is not None:
            on_step()
    return latents


def initial_noise(shape: tuple[int, ...], seeds: list[int], device: torch.device | str) -> Tensor:
    """Standard normal noise (len(seeds), *shape[1:]), one CPU generator per video.

    A video's noise depends on its own seed alone, so it is the same in any batch and on any device.
    """
    rows = [torch.randn(shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows).to(device)
