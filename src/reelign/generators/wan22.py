"""Wan 2.2 (Wan's pipelines with settings of its own): A14B of two experts, and TI2V-5B of timesteps by token.

Facts that matter here (diffusers 0.42.1, pipelines/wan/; Wan-AI's configs): A14B is two Wan 2.1 transformers, one above
and one below a noise level of 0.875, each with a guidance scale of its own. TI2V-5B has a VAE of stride 16 and 48
channels; its timestep is one number for each token, so that the latents of a given first frame stand at 0 while the
others are noisy. For text alone all tokens share one timestep, which is Wan 2.1's call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from reelign.generators.base import Conditioning, SamplingDefaults, VideoSize
from reelign.generators.experts import TwoExperts, has_two_experts
from reelign.generators.given_frames import FIRST, first_frame, first_frame_mask, hold, last_frame, point_at
from reelign.generators.wan import Wan
from reelign.generators.wan_i2v import WanImageToVideo


class Wan22(TwoExperts):
    """Wan 2.2 T2V A14B."""

    family_defaults: ClassVar[SamplingDefaults] = SamplingDefaults(
        num_frames=81,
        height=720,
        width=1280,
        fps=16.0,
        guidance_scale=4.0,
        guidance_scale_2=3.0,
        num_inference_steps=40,
    )


class Wan22ImageToVideo(TwoExperts, WanImageToVideo):
    """Wan 2.2 I2V A14B: no CLIP features, and its own boundary (0.9) stands in its config."""

    family_defaults: ClassVar[SamplingDefaults] = SamplingDefaults(
        num_frames=81, height=480, width=832, fps=16.0, guidance_scale=3.5, num_inference_steps=40
    )


class Wan22TI2V(Wan):
    """Wan 2.2 TI2V-5B: from text alone, or from text and the first frame."""

    family_defaults: ClassVar[SamplingDefaults] = SamplingDefaults(
        num_frames=121, height=704, width=1280, fps=24.0, guidance_scale=5.0, num_inference_steps=50
    )

    @property
    def needs_images(self) -> bool:
        return False

    def encode_condition(self, images: Tensor, size: VideoSize) -> Conditioning:
        return first_frame(self, images, size)

    def continue_from(self, frames: Tensor, size: VideoSize) -> Conditioning:
        return last_frame(self, frames)

    def clean_mask(self, shape: Sequence[int], conditioning: Conditioning) -> Tensor | None:
        if FIRST not in conditioning.tensors:
            return None
        return first_frame_mask(shape, conditioning[FIRST].device)

    def denoised_by(self, transformer: Any, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        given = self.clean_mask(noisy_latents.shape, conditioning)
        if given is None:
            return super().denoised_by(transformer, noisy_latents, sigma, conditioning)
        fed = hold(noisy_latents, conditioning[FIRST], given)
        _, height, width = self.patch
        steps = sigma * self.pipeline.scheduler.config.num_train_timesteps
        timestep = (~given[:, 0, :, ::height, ::width]).flatten(1) * steps[:, None]
        inputs = {name: tensor.to(transformer.dtype) for name, tensor in self.inputs(fed, conditioning).items()}
        predicted: Tensor = transformer(timestep=timestep, return_dict=False, **inputs)[0]
        return point_at(predicted.float(), noisy_latents, conditioning[FIRST], given, sigma)


def wan22_variant(index: Mapping[str, Any]) -> type[Wan] | None:
    """The class for a Wan pipeline with this `model_index.json`; None is a Wan 2.1.

    Raises:
        ReelignError: half of what makes two experts is missing.
    """
    if index.get("expand_timesteps"):
        return Wan22TI2V
    if not has_two_experts(index):
        return None
    return Wan22ImageToVideo if index["_class_name"] == "WanImageToVideoPipeline" else Wan22
