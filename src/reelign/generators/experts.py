"""Generators with two denoisers, an expert for high noise and one for low: each row of a batch goes to its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

    asked_anywhere: Callable[..., Sequence[bool]] | None = None
    """From whether each expert has rows here to whether it has any on some rank: to be set where an expert's weights
    are split over ranks, which all must bring them together or wait for each other for ever."""

    @property
    def denoisers(self) -> dict[str, nn.Module]:
        return {HIGH: self.pipeline.transformer, LOW: self.pipeline.transformer_2}

    def expert_rows(self, sigma: Tensor) -> dict[str, Tensor]:
        # Of timesteps, as the pipeline rounds them: 0.9 in fp32 is less than 0.9, and 1000 times it is 900.
        scale = self.pipeline.scheduler.config.num_train_timesteps
        high = sigma * scale >= self.pipeline.config.boundary_ratio * scale
        return {HIGH: high, LOW: ~high}

    def velocity(self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        """As every family's, each row (B, C, F, H, W) from the expert of its sigma (B,)."""
        denoisers: dict[str, Any] = self.denoisers
        experts = {name: rows.cpu().nonzero()[:, 0] for name, rows in self.expert_rows(sigma).items()}
        here = [len(rows) > 0 for rows in experts.values()]
        called = here if self.asked_anywhere is None else self.asked_anywhere(*here)
        found, order = [], []
        idle: list[Tensor] = []
        for (name, rows), is_called in zip(experts.items(), called, strict=True):
            if not is_called:
                continue
            if len(rows) == len(sigma):
                found.append(self.denoised_by(denoisers[name], noisy_latents, sigma, conditioning))
                order.append(rows)
                continue
            # Of an expert that others ask any row will do.
            own = rows if len(rows) else torch.zeros(1, dtype=rows.dtype)
            there = own.to(noisy_latents.device)
            said = self.denoised_by(denoisers[name], noisy_latents[there], sigma[there], conditioning.take(own))
            (found if len(rows) else idle).append(said)
            if len(rows):
                order.append(rows)
        velocity = found[0] if len(found) == 1 else torch.cat(found)[torch.cat(order).argsort().to(found[0].device)]
        for said in idle:
            # Nothing of it counts but its backward, in which its weights are brought together once more.
            velocity = velocity + 0 * said.nan_to_num(0, 0, 0).sum()
        return velocity

    def second_scale(self, scale: float) -> float:
        """The model's own beside its own first one; beside another the same, which is the pipeline's rule."""
        own = self.defaults
        return own.guidance_scale_2 if own.guidance_scale_2 and scale == own.guidance_scale else scale

    def pipeline_call(self, arguments: dict[str, Any]) -> dict[str, Any]:
        call, scale = super().pipeline_call(arguments), arguments["guidance_scale"]
        call["arguments"].setdefault("guidance_scale_2", self.second_scale(scale))
        return call

    def guided_velocity(
        self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning, guidance: Guidance
    ) -> Tensor:
        """Two passes; each expert may have a scale of its own. As in the pipeline, the first one's says whether there
        is guidance at all."""
        positive = self.velocity(noisy_latents, sigma, conditioning)
        if not guidance.active or guidance.negative is None:
            return positive
        negative = self.velocity(noisy_latents, sigma, guidance.negative)
        low = self.second_scale(guidance.scale) if guidance.scale_2 is None else guidance.scale_2
        scale = torch.where(self.expert_rows(sigma)[HIGH], guidance.scale, low).reshape(-1, 1, 1, 1, 1)
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
