"""The interface of a generator: a video model family with loaded weights over its diffusers pipeline."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from reelign.diffusion.paths import FlowPath, RectifiedFlow
from reelign.diffusion.samplers import VelocityFunction, initial_noise, sample_euler
from reelign.errors import ReelignError
from reelign.generators.conditioning import Conditioning, Guidance
from reelign.generators.decoding.decoders import decoder_of
from reelign.generators.decoding.video import VideoDecoder
from reelign.generators.defaults import SamplingDefaults, VideoSize
from reelign.generators.loaded import LoadedPipeline
from reelign.generators.pixels import to_video

__all__ = ["Conditioning", "Generator", "Guidance", "SamplingDefaults", "Steering", "VideoSize", "to_video"]

Steering = Callable[[VelocityFunction, Tensor, Conditioning], VelocityFunction]
"""(velocity, sigmas (steps + 1,), conditioning) -> the velocity that is sampled with."""


class Generator(LoadedPipeline):
    """One subclass per family; everything a family does its own way is inside its file.

    Args:
        pipeline: the loaded diffusers pipeline.
        model: the folder or hub id it came from.
    """

    path: FlowPath = RectifiedFlow()
    """Where the family's noise levels start and end, which of them it trains on, and the weight of its own loss."""

    def second_scale(self, scale: float) -> float | None:
        """The guidance scale of an expert for low noise where this is the first one's; None without such an expert."""
        return None

    @classmethod
    def variant(cls, index: Mapping[str, Any]) -> type[Generator]:
        """The class for a pipeline with this `model_index.json`, where models of one pipeline class differ."""
        return cls

    @abc.abstractmethod
    def encode_prompts(self, prompts: list[str]) -> Conditioning:
        """Text conditioning of (len(prompts), ...), under no_grad; the empty string is the unconditional prompt."""

    @property
    def takes_negative_prompts(self) -> bool:
        """Whether a negative prompt plays a part in guidance; with an embedded scale there is no pass for one."""
        return True

    def passes(self, scale: float) -> int:
        """Denoiser passes of one video in a step guided at this scale: as many as there are sides of guidance."""
        return 2 if scale > 1 and self.takes_negative_prompts else 1

    @property
    def takes_images(self) -> bool:
        """Whether prompts may have an image that their videos go on from."""
        return type(self).encode_condition is not Generator.encode_condition

    @property
    def needs_images(self) -> bool:
        """Whether they must have one."""
        return self.takes_images

    def encode_condition(self, images: Tensor, size: VideoSize) -> Conditioning:
        """What the model takes of the first frames that its clips go on from, to be joined to its text conditioning.

        Args:
            images: (B, 3, H, W) in [0, 1], of any size; brought to that of the clips as the family's pipeline does.
            size: of the clips.
        Returns:
            named tensors of B rows, under no_grad.
        Raises:
            ReelignError: the family makes videos of text alone.
        """
        raise ReelignError(
            f"{self.model} makes videos of text alone and takes no image.",
            "Use an image-to-video checkpoint, or prompts without images.",
        )

    @property
    def reads_images(self) -> bool:
        """Whether the text encoder reads a prompt together with its image."""
        return type(self).encode_together is not Generator.encode_together

    def encode_together(self, prompts: list[str], images: Tensor) -> Conditioning:
        """Text conditioning of prompts that are read with their images, where the family's text encoder sees images;
        most families' see none.

        Args:
            prompts: B of them.
            images: (B, 3, H, W) in [0, 1], of any size; beside `encode_condition`, whose tensors are joined to these.
        """
        return self.encode_prompts(prompts)

    @property
    def grades_images(self) -> bool:
        """Whether a gradient passes from a clip to the frame that it goes on from: `continue_from` is the family's."""
        return type(self).continue_from is not Generator.continue_from

    def continue_from(self, frames: Tensor, size: VideoSize) -> Conditioning:
        """`encode_condition` of frames that clips of the model's own ended with.

        A family that gives it hands on the gradient and rounds nothing to 8 bits; the others do as for any image.

        Args:
            frames: (B, 3, H, W) in [0, 1], as large as the clips.
            size: of the clips.
        """
        return self.encode_condition(frames, size)

    def clean_mask(self, shape: Sequence[int], conditioning: Conditioning) -> Tensor | None:
        """(B, 1, F, H, W) bool, true where latents of `shape` (B, C, F, H, W) are given and not made; None is nowhere.

        What is given bears no noise and no loss. The family's `velocity` puts it into what the denoiser sees and points
        straight at it, (noisy - given) / sigma, so that any sampler ends on it.
        """
        return None

    @abc.abstractmethod
    def latent_shape(self, size: VideoSize) -> tuple[int, int, int, int]:
        """(C, F, H, W) of the latents of one clip."""

    @property
    def padding(self) -> int:
        """Latent frames in front that no frame of the video is decoded from."""
        return 0

    @property
    def patch(self) -> tuple[int, int, int]:
        """Latents over frames, height and width that make one token."""
        return (1, 1, 1)

    def tokens(self, shape: Sequence[int]) -> int:
        """Tokens of one clip with latents (C, F, H, W), its prompt's not counted."""
        return math.prod(size // patch for size, patch in zip(shape[1:], self.patch, strict=True))

    @abc.abstractmethod
    def legal(self, size: VideoSize) -> VideoSize:
        """The nearest size the model takes."""

    @abc.abstractmethod
    def sigmas(self, steps: int, shape: Sequence[int]) -> Tensor:
        """(steps + 1,) the family's own schedule with its shift, decreasing from `path.start` to `path.finish`.

        `shape` is the (C, F, H, W) of the latents: some families shift by how many tokens there are.
        """

    def start(self, noise: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        """What sampling begins with, of standard noise (B, C, F, H, W), at the schedule's first level: the path's start
        for most families, and a hint of the image in it for some."""
        return self.path.start(noise, sigma)

    @abc.abstractmethod
    def velocity(self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        """ONE model call, no guidance: (B, C, F, H, W), (B,) -> canonical velocity (B, C, F, H, W)."""

    @abc.abstractmethod
    def encode(self, videos: Tensor) -> Tensor:
        """Videos (B, F, 3, H, W) in [0, 1] -> normalised latents (B, C, F', H', W'), fp32."""

    @abc.abstractmethod
    def unnormalised(self, latents: Tensor) -> Tensor:
        """Normalised latents as the VAE takes them, on its device and in its precision; differentiable."""

    @property
    def decoder(self) -> VideoDecoder:
        """The VAE's decoder in pieces along time."""
        return decoder_of(self.pipeline.vae)

    def decode(self, latents: Tensor, *, frames: Sequence[int] | None = None) -> Tensor:
        """Normalised latents -> videos (B, F, 3, H, W) in [0, 1]; differentiable, all activations kept.

        `training.staged_decode` takes the gradient in memory that does not grow with the clip.

        Args:
            latents: (B, C, F', H', W').
            frames: decode these frames alone, in this order, and no more pieces than they need: a causal VAE's up to
                the last of them, a VAE of single frames' own. None for all.
        Raises:
            ReelignError: a frame that the clip does not have.
        """
        raw = self.unnormalised(latents)
        pixels = self.decoder.whole(raw) if frames is None else self.decoder.frames(raw, frames)
        return to_video(pixels).clamp(0, 1)

    def packed(self, latents: Tensor) -> Tensor:
        """Latents (B, C, F, H, W) in the layout in which the family's pipeline holds them while it samples."""
        return latents

    def unpacked(self, held: Tensor, shape: Sequence[int]) -> Tensor:
        """The other way, to `shape` (B, C, F, H, W)."""
        return held

    def check(self, size: VideoSize) -> None:
        """Refuse a size the model would change in silence, naming the nearest legal one."""
        nearest = self.legal(size)
        if nearest != size:
            raise ReelignError(f"{self.model} cannot make {size}.", f"The nearest size it can make is {nearest}.")

    def guided_velocity(
        self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning, guidance: Guidance
    ) -> Tensor:
        """Classifier-free guidance in the family's own style; by default one pass for each side."""
        positive = self.velocity(noisy_latents, sigma, conditioning)
        if not guidance.active or guidance.negative is None:
            return positive
        negative = self.velocity(noisy_latents, sigma, guidance.negative)
        return negative + guidance.scale * (positive - negative)

    @torch.no_grad()
    def sample(
        self,
        conditioning: Conditioning,
        seeds: list[int],
        size: VideoSize,
        *,
        steps: int,
        guidance: Guidance,
        steer: Steering | None = None,
    ) -> Tensor:
        """Latents (B, C, F, H, W) of one video per seed, by the Euler sampler on the family's own schedule.

        `steer` bends the velocity after classifier-free guidance.
        """
        shape = self.latent_shape(size)
        noise = initial_noise((len(seeds), *shape), seeds, self.device)

        def velocity(noisy_latents: Tensor, sigma: Tensor) -> Tensor:
            return self.guided_velocity(noisy_latents, sigma, conditioning, guidance)

        sigmas = self.sigmas(steps, shape).to(self.device)
        bent = velocity if steer is None else steer(velocity, sigmas, conditioning)
        latents = sample_euler(bent, self.start(noise, sigmas[0], conditioning), sigmas)
        return self.path.finish(latents, sigmas[-1])
