"""Reward guidance in a plain diffusers pipeline, through its `callback_on_step_end`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from reelign.diffusion.guidance import RewardGuidance, Weights
from reelign.diffusion.samplers import VelocityFunction
from reelign.errors import ReelignError
from reelign.generators import GENERATORS
from reelign.generators.base import Conditioning
from reelign.naming import named_object
from reelign.training.latent_guide import LatentGuide
from reelign.training.latent_reward_files import load_latent_reward

PIPELINES = ("WanPipeline",)
"""Whose latents are the canonical ones, and whose callback is handed the text of the videos alone."""


class PipelineGuide:
    """A callback that bends every step as `Generator.sample` does under the same guide.

    A pipeline hands over the latents behind a step, (z' - z) / (sigma' - sigma) of which is the velocity it used; the
    step is taken again with the guided one. With the Euler scheduler of flow matching the videos are those of
    `Generator.sample`. A scheduler that remembers earlier velocities remembers them without guidance.

        pipe(..., callback_on_step_end=guide, callback_on_step_end_tensor_inputs=guide.inputs)

    Args:
        guide: the reward with its weights; (B,) weights are of the videos in the pipeline's order.
    """

    inputs: ClassVar[list[str]] = ["latents", "prompt_embeds"]

    def __init__(self, guide: LatentGuide) -> None:
        self.guide = guide
        self._bent: VelocityFunction | None = None
        self._own = torch.empty(0)
        """The velocity of the step in hand."""
        self._before: Tensor | None = None
        """Latents that the next step starts from."""

    def __call__(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        latents: Tensor = tensors["latents"]
        sigmas = pipeline.scheduler.sigmas.to(latents.device)
        if step == 0:
            self._begin(sigmas, Conditioning({"prompt_embeds": tensors["prompt_embeds"]}))
        elif self._before is not None and self._bent is not None:
            gap = sigmas[step + 1] - sigmas[step]
            self._own = (latents.float() - self._before) / gap
            level = sigmas[step].expand(len(latents))
            latents = (self._before + gap * self._bent(self._before, level)).to(latents.dtype)
        self._before = latents.float()
        if step + 2 == len(sigmas):
            self.guide.log.warn()
            self._before = self._bent = None
        return {"latents": latents}

    def _begin(self, sigmas: Tensor, conditioning: Conditioning) -> None:
        self._bent = self.guide(lambda noisy, sigma: self._own, sigmas, conditioning)
        if self.guide.settings.guided_steps(sigmas)[0]:
            # Its latents are not handed over; of Wan's own schedules the first level is pure noise.
            warnings.warn("The first step of a pipeline that starts below pure noise is not guided.", stacklevel=3)


def pipeline_guide(
    pipeline: Any, latent_reward: str | Path, weights: Weights, settings: RewardGuidance | None = None
) -> PipelineGuide:
    """A callback for a loaded pipeline.

    Args:
        pipeline: as `from_pretrained` loaded it, with or without a LoRA.
        latent_reward: the folder of a reward of that model.
        weights: of its dimensions.
        settings: when it guides and how hard at most.
    Raises:
        ReelignError: another kind of pipeline, or a reward of another model.
    """
    name = type(pipeline).__name__
    if name not in PIPELINES:
        raise ReelignError(
            f"The callback guides {', '.join(PIPELINES)}, and this is a {name}.",
            "Sample it with reelign: Generator.sample(..., steer=LatentGuide(...)) or `reelign sample --guide`.",
        )
    generator = named_object(GENERATORS[name], "generator")(pipeline, str(pipeline.config._name_or_path))
    return PipelineGuide(LatentGuide(load_latent_reward(latent_reward, generator), weights, settings))
