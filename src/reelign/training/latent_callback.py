"""Reward guidance in a plain diffusers pipeline, through its `callback_on_step_end`."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from reelign.diffusion.guidance import RewardGuidance, Weights
from reelign.diffusion.samplers import VelocityFunction
from reelign.errors import ReelignError
from reelign.generators import GENERATORS
from reelign.generators.base import Conditioning, Generator, VideoSize
from reelign.generators.unknown_words import warn_of_unknown_words
from reelign.naming import named_object
from reelign.training.asked import check_images, encode_asked
from reelign.training.latent_guide import LatentGuide
from reelign.training.latent_reward_files import load_latent_reward

INSTEAD = "Sample it with reelign: Generator.sample(..., steer=LatentGuide(...)) or `reelign sample --guide`."


class PipelineGuide:
    """A callback that bends every step as `Generator.sample` does under the same guide.

    A pipeline hands over the latents behind a step. On the canonical flow (z' - z) / (sigma' - sigma) is the velocity
    that it used, whatever its scheduler; the step is taken again with the guided one. With the schedulers that a family
    is compared with (Euler's of flow matching, DDIM) the videos are those of `Generator.sample`. One that remembers
    earlier velocities, such as UniPC, remembers them without guidance.

        pipe(..., callback_on_step_end=guide, callback_on_step_end_tensor_inputs=guide.inputs)

    Args:
        guide: the reward with its weights; (B,) weights are of the videos in the pipeline's order.
        generator: over a copy of the pipeline with a scheduler of its own, which may be asked for its levels while the
            pipeline's is in the middle of a sampling.
        conditioning: of the B videos.
        size: of them.
    """

    inputs: ClassVar[list[str]] = ["latents"]

    def __init__(self, guide: LatentGuide, generator: Generator, conditioning: Conditioning, size: VideoSize) -> None:
        self.guide = guide
        self.generator = generator
        self.conditioning = conditioning
        self.shape = (len(conditioning), *generator.latent_shape(size))
        self._sigmas = torch.empty(0)
        self._bent: VelocityFunction | None = None
        self._own = torch.empty(0)
        """The velocity of the step in hand."""
        self._before: Tensor | None = None
        """Canonical latents that the next step starts from."""

    def __call__(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        held: Tensor = tensors["latents"]
        if step == 0:
            self._begin(pipeline, held)
        latents = self.generator.unpacked(held, self.shape).float() / self._size(step + 1)
        if self._before is not None and self._bent is not None:
            now, then = self._sigmas[step : step + 2]
            self._own = (latents - self._before) / (then - now)
            latents = self._before + (then - now) * self._bent(self._before, now.expand(len(latents)))
            held = self.generator.packed(self._size(step + 1) * latents).to(held.dtype)
        self._before = latents
        if step + 2 == len(self._sigmas):
            self.guide.log.warn()
            self._before = self._bent = None
        return {"latents": held}

    def _begin(self, pipeline: Any, held: Tensor) -> None:
        expected = tuple(self.generator.packed(held.new_empty(self.shape)).shape)
        if tuple(held.shape) != expected:
            raise ReelignError(
                f"The pipeline makes latents {tuple(held.shape)}, and the guide was made for {expected}.",
                "Give pipeline_guide the prompts and the size of the call.",
            )
        timesteps = pipeline.scheduler.timesteps
        sigmas = self.generator.sigmas(len(timesteps), self.shape[1:]).to(held.device)
        own = getattr(self.generator, "ddim", self.generator.pipeline.scheduler).timesteps
        if not torch.equal(own.cpu().float(), timesteps.cpu().float()):
            raise ReelignError(
                f"The {type(pipeline).__name__} steps through noise levels that are not its own.",
                "Leave out timesteps= and sigmas=, and keep the scheduler that the model was loaded with.",
            )
        self._sigmas, self._before = sigmas, None
        self._bent = self.guide(lambda noisy, sigma: self._own, sigmas, self.conditioning.to(held.device))
        if self.guide.settings.guided_steps(sigmas)[0]:
            # The latents that it starts from are not handed over.
            warnings.warn("The first step of a pipeline that starts below pure noise is not guided.", stacklevel=3)

    def _size(self, place: int) -> Tensor:
        """What a pipeline's own latents are over the canonical ones, at a level of the schedule."""
        level = self._sigmas[place]
        return self.generator.path.finish(torch.ones_like(level), level)


def pipeline_guide(
    pipeline: Any,
    latent_reward: str | Path,
    weights: Weights,
    *,
    prompts: Sequence[str],
    size: VideoSize,
    settings: RewardGuidance | None = None,
) -> PipelineGuide:
    """A callback for the calls of a loaded pipeline.

    Args:
        pipeline: as `from_pretrained` loaded it, with or without a LoRA.
        latent_reward: the folder of a reward of that model.
        weights: of its dimensions.
        prompts: of the videos of a call, in their order; `ImagePrompt`s for an image-to-video pipeline.
        size: of these videos.
        settings: when it guides and how hard at most.
    Raises:
        ReelignError: a pipeline without this callback, a reward of another model, or prompts without their images.
    """
    kind = type(pipeline)
    if kind.__name__ not in GENERATORS or "callback_on_step_end" not in inspect.signature(kind.__call__).parameters:
        raise ReelignError(f"A {kind.__name__} has no callback_on_step_end that could guide it.", INSTEAD)
    own = copy.copy(pipeline)
    # Past DiffusionPipeline's own __setattr__, which would write it into a config that both share.
    vars(own)["scheduler"] = copy.deepcopy(pipeline.scheduler)
    index = {"_class_name": kind.__name__, **pipeline.config}
    family: type[Generator] = named_object(GENERATORS[kind.__name__], "generator")
    generator = family.variant(index)(own, str(pipeline.config._name_or_path))
    generator.check(size)
    check_images(generator, prompts)
    warn_of_unknown_words(generator, prompts)
    conditioning = encode_asked(generator, prompts, size)
    guide = LatentGuide(load_latent_reward(latent_reward, generator), weights, settings)
    return PipelineGuide(guide, generator, conditioning, size)
