"""A family's path on the canonical flow: where it starts and ends, where it is trained, what its model is fed and says.

The samplers and objectives know the canonical flow alone; these classes hold what differs from family to family.
"""

from __future__ import annotations

import abc
from typing import Literal

import torch
from torch import Tensor

from reelign.diffusion.flow import canonical_sigma, per_sample, unit_variance
from reelign.diffusion.predictions import Prediction, native_weight, output_from_velocity, velocity_from_output


class FlowPath(abc.ABC):
    """One family's path. Latents are (B, C, F, H, W) and canonical; sigma is (B,) in [0, 1] unless said otherwise."""

    prediction: Prediction

    @abc.abstractmethod
    def model_input(self, noisy_latents: Tensor, sigma: Tensor) -> Tensor:
        """What the model is fed for canonical noisy latents: its own scaling of them."""

    @abc.abstractmethod
    def start(self, noise: Tensor, sigma: Tensor) -> Tensor:
        """Canonical noisy latents at the schedule's first level (a scalar) from standard normal noise."""

    @abc.abstractmethod
    def finish(self, noisy_latents: Tensor, sigma: Tensor) -> Tensor:
        """Clean latents from those at the schedule's last level (a scalar), as the family's own sampler takes them."""

    @abc.abstractmethod
    def training_sigmas(self, quantiles: Tensor) -> Tensor:
        """Noise levels that the family trains on, (B,), from quantiles in [0, 1).

        Uniform quantiles give the distribution that the family was pretrained with; others, and shifted ones, lean
        towards an end of it.
        """

    def clean_sigmas(self, rows: int) -> Tensor:
        """(rows,) the lowest noise level of training: at which a denoiser is shown clean latents."""
        return self.training_sigmas(torch.zeros(rows))

    def velocity(self, output: Tensor, noisy_latents: Tensor, sigma: Tensor) -> Tensor:
        """The canonical velocity that a model output says."""
        return velocity_from_output(self.prediction, output, noisy_latents, sigma)

    def output(self, velocity: Tensor, noisy_latents: Tensor, sigma: Tensor) -> Tensor:
        """The model output that says a canonical velocity."""
        return output_from_velocity(self.prediction, velocity, noisy_latents, sigma)

    def native_weight(self, sigma: Tensor) -> Tensor:
        """Weight that turns a velocity error into the family's own error; the default weight of every objective."""
        return native_weight(self.prediction, sigma)


class RectifiedFlow(FlowPath):
    """The canonical flow itself: straight from pure noise at sigma 1 to clean latents at 0, any level between."""

    prediction: Prediction = "flow"

    def model_input(self, noisy_latents: Tensor, sigma: Tensor) -> Tensor:
        return noisy_latents

    def start(self, noise: Tensor, sigma: Tensor) -> Tensor:
        return noise

    def finish(self, noisy_latents: Tensor, sigma: Tensor) -> Tensor:
        return noisy_latents

    def training_sigmas(self, quantiles: Tensor) -> Tensor:
        return quantiles


class DDPM(FlowPath):
    """A table of T noise levels, x_t = √ᾱ_t·latents + √(1 - ᾱ_t)·noise (Ho et al. 2020, arXiv:2006.11239, eq. 4).

    The model knows the table's own levels and no others, so training draws them and sampling steps through them.
    Its ends are not those of the flow: the noisiest level is not quite pure noise unless the table was rescaled to zero
    terminal SNR (Lin et al. 2023, arXiv:2305.08891, algorithm 1), and samplers may stop at ᾱ_0 and call it clean.

    Args:
        alphas_cumprod: (T,) ᾱ in [0, 1), strictly decreasing; its last entry is 0 with zero terminal SNR.
        prediction: "epsilon" or "v".
        signal: (T,) s_t > 0 of models that scale the video beside the table, x_t = s_t·√ᾱ_t·latents + √(1 - ᾱ_t)·noise,
            with s_0 = 1; None is 1 throughout.
    Raises:
        ValueError: the table does not decrease, or it has zero terminal SNR and the model predicts epsilon, which at
            pure noise says nothing of the video.
    """

    def __init__(
        self, alphas_cumprod: Tensor, prediction: Literal["epsilon", "v"], *, signal: Tensor | None = None
    ) -> None:
        self.prediction = prediction
        self.signal = signal
        if signal is not None and (prediction == "v" or signal.shape != alphas_cumprod.shape):
            raise ValueError("signal goes with an epsilon model, one value for each timestep")
        exact = alphas_cumprod.double()
        self.sigmas = self.level_of(exact)
        """(T,) canonical noise levels by timestep, increasing."""
        if signal is not None:
            self.sigmas = canonical_sigma(signal.double() * exact.sqrt(), (1 - exact).sqrt()).float()
        if not bool((self.sigmas.diff() > 0).all()):
            raise ValueError("alphas_cumprod must decrease strictly from one timestep to the next")
        if prediction == "epsilon" and float(self.sigmas[-1]) == 1:
            raise ValueError("an epsilon model cannot have zero terminal SNR: at pure noise it says nothing")
        self._between = (self.sigmas[1:] + self.sigmas[:-1]) / 2

    @staticmethod
    def level_of(alphas_cumprod: Tensor) -> Tensor:
        """Canonical fp32 sigma of values of ᾱ; worked out in fp64, since 1 - ᾱ cancels at the clean end."""
        exact = alphas_cumprod.double()
        return canonical_sigma(exact.sqrt(), (1 - exact).sqrt()).float()

    def timestep(self, sigma: Tensor) -> Tensor:
        """The table's nearest timestep, int64 in 0..T - 1, of the same shape as sigma; exact on the table's levels."""
        return torch.bucketize(sigma.contiguous(), self._between.to(sigma.device))

    def size(self, sigma: Tensor) -> Tensor:
        """The model's own x over the canonical z at these levels, of any shape: alpha + scale of its path.

        With a signal s: sigma / (1 - sigma) = √(1 - ᾱ) / (s·√ᾱ), so that √ᾱ and √(1 - ᾱ) are the unit vector along
        (1 - sigma, s·sigma).
        """
        if self.signal is None:
            alpha, scale = unit_variance(sigma)
            return alpha + scale
        signal = self.signal.to(sigma)[self.timestep(sigma)]
        norm = torch.hypot(1 - sigma, signal * sigma)
        return signal / norm

    def model_input(self, noisy_latents: Tensor, sigma: Tensor) -> Tensor:
        return per_sample(self.size(sigma), noisy_latents) * noisy_latents

    def start(self, noise: Tensor, sigma: Tensor) -> Tensor:
        # The samplers of DDPM models take standard normal noise for x at the first timestep.
        return noise / self.size(sigma)

    def finish(self, noisy_latents: Tensor, sigma: Tensor) -> Tensor:
        return self.size(sigma) * noisy_latents

    def training_sigmas(self, quantiles: Tensor) -> Tensor:
        steps = len(self.sigmas)
        timesteps = (quantiles * steps).long().clamp(0, steps - 1)
        return self.sigmas.to(quantiles.device)[timesteps]


class EDM(FlowPath):
    """x = latents + σ·noise with a preconditioned network (Karras et al. 2022, arXiv:2206.00364, table 1, σ_data = 1).

    σ = sigma / (1 - sigma). The network is fed x / √(1 + σ²), finite at every sigma. For σ_data other than 1 divide the
    latents and every σ by it first. Training draws ln σ ~ N(mean, std²), which makes the canonical sigma logit-normal.

    Args:
        mean: P_mean of ln σ: -1.2 in the paper.
        std: P_std: 1.2 in the paper.
    """

    prediction: Prediction = "v"

    def __init__(self, *, mean: float = -1.2, std: float = 1.2) -> None:
        self.mean = mean
        self.std = std

    def model_input(self, noisy_latents: Tensor, sigma: Tensor) -> Tensor:
        alpha, scale = unit_variance(per_sample(sigma, noisy_latents))
        return (alpha + scale) * noisy_latents

    def start(self, noise: Tensor, sigma: Tensor) -> Tensor:
        # Algorithm 1: x = σ_max·noise, over alpha + scale = 1 + σ_max.
        return sigma * noise

    def finish(self, noisy_latents: Tensor, sigma: Tensor) -> Tensor:
        return noisy_latents / (1 - sigma)

    def training_sigmas(self, quantiles: Tensor) -> Tensor:
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(quantiles))

    def clean_sigmas(self, rows: int) -> Tensor:
        """(rows,) a level that a thousandth of training is below: it has no lowest, and the network is told ln σ."""
        return self.training_sigmas(torch.full((rows,), 1e-3))
