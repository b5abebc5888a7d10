"""One step of each sampler on the canonical flow, differentiable in the latents and in the model's weights.

Every family's path is the canonical flow after rescaling (`flow`), so that each of these steps works with every family:

    euler   z' = z + (sigma' - sigma)·velocity: the flow's ODE, DDIM with eta 0 and EDM's first-order step are this one
    ddim    the same with fresh noise in place of some of the estimated one (Song et al. 2020, arXiv:2010.02502, eq. 12)
    edm     noise added before the step (Karras et al. 2022, arXiv:2206.00364, algorithm 2 without the second-order
            correction, as diffusers' EulerDiscreteScheduler has it: Stable Video Diffusion's own, and no supported
            pipeline's published scheduler takes Heun's step)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reelign.diffusion.flow import latents_from_velocity, noise_from_velocity, unit_variance
from reelign.diffusion.samplers import VelocityFunction
from reelign.diffusion.seeds import generator_from

MOST_CHURN = 2**0.5 - 1
"""Of EDM's algorithm 2: no step more than doubles the variance of the noise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Euler:
    """The ODE's own step; no noise."""

    name: Literal["euler"] = "euler"

    @property
    def stochastic(self) -> bool:
        return False

    def __call__(
        self, velocity: VelocityFunction, latents: Tensor, sigma: Tensor, next_sigma: Tensor, noise: Tensor | None
    ) -> Tensor:
        level = sigma.expand(len(latents))
        return latents + (next_sigma - sigma) * velocity(latents, level).float()


@dataclass(frozen=True, kw_only=True, slots=True)
class DDIM:
    """DDIM with noise; eta 1 is ancestral sampling, which VADER trains under (arXiv:2407.08737)."""

    name: Literal["ddim"] = "ddim"
    eta: float = 1.0
    """Share of the posterior's deviation that is drawn afresh, in [0, 1]; 0 is `euler`."""

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must be in [0, 1], got {self.eta}")

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def __call__(
        self, velocity: VelocityFunction, latents: Tensor, sigma: Tensor, next_sigma: Tensor, noise: Tensor | None
    ) -> Tensor:
        level = sigma.expand(len(latents))
        predicted = velocity(latents, level).float()
        clean = latents_from_velocity(latents, predicted, level)
        old = noise_from_velocity(latents, predicted, level)
        alpha, scale = unit_variance(next_sigma)
        deviation = ddim_deviation(sigma, next_sigma, self.eta)
        kept = (scale.square() - deviation.square()).clamp(min=0).sqrt()
        moved = alpha * clean + kept * old
        if noise is not None and self.stochastic:
            moved = moved + deviation * noise
        return moved / (alpha + scale)


@dataclass(frozen=True, kw_only=True, slots=True)
class EDMEuler:
    """EDM's sampler of first order; with churn, noise is added before each step."""

    name: Literal["edm"] = "edm"
    churn: float = 0.0
    """The variance's growth before a step is (1 + churn)²; algorithm 2's S_churn over the number of steps. 0 is
    `euler`. A model that knows the levels of a table alone is asked at the nearest one."""
    noise_scale: float = 1.0
    """S_noise: deviation of what is added."""

    def __post_init__(self) -> None:
        if not 0 <= self.churn <= MOST_CHURN:
            raise ValueError(f"churn must be in [0, {MOST_CHURN:.4f}], got {self.churn}")
        if not self.noise_scale >= 0:
            raise ValueError(f"noise_scale must be at least 0, got {self.noise_scale}")

    @property
    def stochastic(self) -> bool:
        return self.churn > 0

    def __call__(
        self, velocity: VelocityFunction, latents: Tensor, sigma: Tensor, next_sigma: Tensor, noise: Tensor | None
    ) -> Tensor:
        # Pure noise, where EDM's own level is infinite, takes no more of it.
        if noise is not None and self.stochastic and float(sigma) < 1:
            own = sigma / (1 - sigma)
            higher = own * (1 + self.churn)
            added = (higher.square() - own.square()).sqrt() * self.noise_scale
            latents = (latents / (1 - sigma) + added * noise) / (1 + higher)
            sigma = higher / (1 + higher)
        level = sigma.expand(len(latents))
        return latents + (next_sigma - sigma) * velocity(latents, level).float()


SamplerStep = Euler | DDIM | EDMEuler


def ddim_deviation(sigma: Tensor, next_sigma: Tensor, eta: float) -> Tensor:
    """Deviation of DDIM's fresh noise on the path of unit variance (arXiv:2010.02502, eq. 16).

        eta · (scale' / scale) · √(1 - alpha² / alpha'²)

    Args:
        sigma, next_sigma: scalars, canonical levels with next_sigma < sigma.
        eta: in [0, 1].
    """
    alpha, scale = unit_variance(sigma)
    next_alpha, next_scale = unit_variance(next_sigma)
    share = (1 - (alpha / next_alpha).square()).clamp(min=0).sqrt()
    return eta * next_scale / scale * share


def step_noise(shape: tuple[int, ...], seeds: list[int], step: int, device: torch.device | str) -> Tensor:
    """Standard normal noise of one step, (len(seeds), *shape[1:]): a function of each video's seed and the step alone.

    Drawn on the CPU, so that a step that runs again, another batch and another device see the same.
    """
    rows = [torch.randn(shape[1:], generator=generator_from(seed, "step", step)) for seed in seeds]
    return torch.stack(rows).to(device)
