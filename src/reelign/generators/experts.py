"""Generators with two denoisers, an expert for high noise and one for low: each row of a batch goes to its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Guidance
from reelign.generators.wan import Wan

HIGH, LOW = "transformer", "transformer_2"


class TwoExperts(Wan):
    """Wan's pipelines with a `boundary_ratio`: `transformer` at and above it, `transformer_2` below.

    Wan 2.2's technical notes call them experts of a mixture; the noise level alone chooses (diffusers 0.42.1,
    pipelines/wan/pipeline_wan.py). Mixed in before the class whose `denoised_by` is one expert's call.
    """

    @property
    def denoisers(self) -> dict[str, nn.Module]:
        return {HIGH: self.pipeline.transformer, LOW: self.pipeline.transformer_2}

    def expert(self, sigma: float) -> str:
        return HIGH if bool(self.is_high(torch.tensor(sigma, dtype=torch.float32))) else LOW

    def is_high(self, sigma: Tensor) -> Tensor:
        """Whether noise levels belong to the expert for high noise; of timesteps, as the pipeline rounds them."""
        scale = self.pipeline.scheduler.config.num_train_timesteps
        high: Tensor = sigma * scale >= self.pipeline.config.boundary_ratio * scale
        return high

    def velocity(self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        high = self.is_high(sigma).cpu()
        denoisers: dict[str, Any] = self.denoisers
        if high.all() or not high.any():
            name = HIGH if high.any() else LOW
            return self.denoised_by(denoisers[name], noisy_latents, sigma, conditioning)
        found, order = [], []
        for name, of in ((HIGH, high), (LOW, ~high)):
            rows = of.nonzero()[:, 0]
            own = rows.to(noisy_latents.device)
            found.append(self.denoised_by(denoisers[name], noisy_latents[own], sigma[own], conditioning.take(rows)))
            order.append(own)
        return torch.cat(found)[torch.cat(order).argsort()]

    def guided_velocity(
        self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning, guidance: Guidance
    ) -> Tensor:
        """Two passes; each expert may have a scale of its own. As in the pipeline, the first one's says whether there
        is guidance at all."""
        positive = self.velocity(noisy_latents, sigma, conditioning)
        if not guidance.active or guidance.negative is None:
            return positive
        negative = self.velocity(noisy_latents, sigma, guidance.negative)
        low = guidance.scale if guidance.scale_2 is None else guidance.scale_2
        scale = torch.where(self.is_high(sigma), guidance.scale, low).reshape(-1, 1, 1, 1, 1)
        return negative + scale * (positive - negative)


def has_two_experts(index: Mapping[str, Any]) -> bool:
    """Whether a Wan pipeline with this `model_index.json` has an expert for high noise and one for low.

    Raises:
        ReelignError: it names a boundary between experts or a second one, but not both.
    """
    second, boundary = (index.get("transformer_2") or [None])[0] is not None, index.get("boundary_ratio") is not None
    if second != boundary:
        there, lacking = ("transformer_2", "boundary_ratio") if second else ("boundary_ratio", "transformer_2")
        raise ReelignError(
            f"The model_index.json of this Wan 2.2 pipeline has a {there} but no {lacking}.",
            "Download it again: the two experts and the noise level between them belong together.",
        )
    return second
