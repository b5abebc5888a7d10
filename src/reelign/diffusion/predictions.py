"""What a model predicts, and the canonical velocity that it says.

Shapes everywhere: outputs, noisy latents and velocities (B, C, F, H, W), sigma (B,) in [0, 1]. `noisy_latents` are
canonical, z = (1 - sigma)·latents + sigma·noise, whatever scaling the model itself is fed. With (alpha, scale) of unit
variance at sigma:

    flow      noise - latents                   (Lipman et al. 2022, arXiv:2210.02747)
    epsilon   noise                             (Ho et al. 2020, arXiv:2006.11239, eq. 14)
    v         alpha·noise - scale·latents       (Salimans & Ho 2022, arXiv:2202.00512, section 4)

EDM (Karras et al. 2022, arXiv:2206.00364, eq. 7) is `v` again: its network F sees x / √(1 + σ²), of unit variance for
data of unit variance, and c_skip and c_out make it predict -v. Stable Video Diffusion and diffusers' v_prediction on
its path flip the sign: there F is v itself.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from reelign.diffusion.flow import noise_from_velocity, per_sample, unit_variance

Prediction = Literal["flow", "epsilon", "v"]


def velocity_from_output(prediction: Prediction, output: Tensor, noisy_latents: Tensor, sigma: Tensor) -> Tensor:
    """The velocity that a model's output says.

        epsilon   (output - z) / (1 - sigma)                               sigma < 1
        v         (alpha + scale)·[output + (scale - alpha)·z]             any sigma, zero terminal SNR included

    At sigma = 1 an epsilon says nothing of the latents; its velocity there is not finite.
    """
    if prediction == "epsilon":
        return (output - noisy_latents) / (1 - per_sample(sigma, noisy_latents))
    if prediction == "v":
        alpha, scale = unit_variance(per_sample(sigma, noisy_latents))
        return (alpha + scale) * (output + (scale - alpha) * noisy_latents)
    return output


def output_from_velocity(prediction: Prediction, velocity: Tensor, noisy_latents: Tensor, sigma: Tensor) -> Tensor:
    """The model output that says a velocity: the inverse of `velocity_from_output`."""
    if prediction == "epsilon":
        return noise_from_velocity(noisy_latents, velocity, sigma)
    if prediction == "v":
        alpha, scale = unit_variance(per_sample(sigma, noisy_latents))
        return velocity / (alpha + scale) - (scale - alpha) * noisy_latents
    return velocity


def native_weight(prediction: Prediction, sigma: Tensor) -> Tensor:
    """The model's own squared error over the squared velocity error at the same level.

        flow      1
        epsilon   (1 - sigma)²
        v         1 / (alpha + scale)² = (1 - sigma)² + sigma²;   EDM's (1 + σ²) / (1 + σ)² is the same number

    Args:
        sigma: any shape, in [0, 1].
    Returns:
        the same shape, in (0, 1]; 0 only for epsilon at sigma = 1.
    """
    if prediction == "epsilon":
        return (1 - sigma).square()
    if prediction == "v":
        return (1 - sigma).square() + sigma.square()
    return torch.ones_like(sigma)
