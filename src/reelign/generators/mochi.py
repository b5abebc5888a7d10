"""Mochi 1 (`MochiPipeline`): a rectified-flow transformer of joint text and video blocks over a causal VAE, T5 text.

Genmo 2024, github.com/genmoai/mochi. Facts that matter here: its time runs from noise at 0 to video at 1 and its output
points from noise to video, so both are turned round; the schedule is straight over its first half and quadratic after;
the VAE takes 6k + 1 frames; text is masked inside the attention, and an empty prompt is no text at all where the
pipeline says `force_zeros_for_empty_prompt`. The pipeline rounds its latents to the model's precision after every step;
here they stay fp32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator, SamplingDefaults, VideoSize
from reelign.generators.pixels import encoded
from reelign.generators.sizes import causal_shape, nearest_size

MAX_SEQUENCE_LENGTH = 256
THRESHOLD_NOISE = 0.025
"""Where the schedule's straight part ends, from the noisy side."""


class Mochi(Generator):
    """Mochi 1 T2V through its diffusers pipeline."""

    pipeline_classes: ClassVar[tuple[str, ...]] = ("MochiPipeline",)
    # `attn1.`, or the text's attention pool before the blocks would match; no add_q_proj, of which the last block's
    # makes queries that nobody reads.
    lora_targets: ClassVar[tuple[str, ...]] = (
        *("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0"),
        *("add_k_proj", "add_v_proj", "to_add_out"),
    )
    family_defaults: ClassVar[SamplingDefaults] = SamplingDefaults(
        num_frames=163, height=480, width=848, fps=30.0, guidance_scale=4.5, num_inference_steps=64
    )

    def __init__(self, pipeline: Any, model: str) -> None:
        if not pipeline.scheduler.config.get("invert_sigmas"):
            raise ReelignError(
                f"The scheduler of {model} does not say invert_sigmas, without which Mochi's time runs backwards.",
                "Compare its scheduler_config.json with that of genmo/mochi-1-preview.",
            )
        super().__init__(pipeline, model)

    @property
    def denoisers(self) -> dict[str, nn.Module]:
        return {"transformer": self.pipeline.transformer}

    @property
    def patch(self) -> tuple[int, int, int]:
        size = self.pipeline.transformer.config.patch_size
        return 1, size, size

    @property
    def max_sequence_length(self) -> int:
        return int(min(MAX_SEQUENCE_LENGTH, self.pipeline.tokenizer.model_max_length))

    @property
    def call_arguments(self) -> dict[str, Any]:
        return {"max_sequence_length": self.max_sequence_length}

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Conditioning:
        # Apart: the pipeline may blank every prompt of a batch whose last one is empty.
        texts = [prompt for prompt in prompts if prompt]
        parts = [self._encoded(batch) for batch in (texts, [""][: len(prompts) - len(texts)]) if batch]
        found = iter(range(len(texts)))
        return Conditioning.cat(parts).take(torch.tensor([next(found) if text else len(texts) for text in prompts]))

    def _encoded(self, prompts: list[str]) -> Conditioning:
        embeds, mask, *_ = self.pipeline.encode_prompt(
            prompts, do_classifier_free_guidance=False, max_sequence_length=self.max_sequence_length
        )
        return Conditioning({"prompt_embeds": embeds, "prompt_attention_mask": mask})

    def latent_shape(self, size: VideoSize) -> tuple[int, int, int, int]:
        pipeline = self.pipeline
        return causal_shape(
            size,
            channels=pipeline.transformer.config.in_channels,
            stride=pipeline.vae_temporal_scale_factor,
            side=pipeline.vae_spatial_scale_factor,
        )

    def legal(self, size: VideoSize) -> VideoSize:
        # The pipeline itself asks for multiples of 8, with which the patches do not come out even.
        step = math.lcm(8, self.pipeline.vae_spatial_scale_factor * self.patch[1])
        return nearest_size(size, step=step, stride=self.pipeline.vae_temporal_scale_factor)

    def sigmas(self, steps: int, shape: Sequence[int] = ()) -> Tensor:
        from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule

        if steps < 2:
            raise ReelignError(
                f"Mochi's schedule has a straight and a quadratic part, and {steps} step has not room for both.",
                "Set num_inference_steps to at least 2.",
            )
        scheduler = self.pipeline.scheduler
        scheduler.set_timesteps(sigmas=np.array(linear_quadratic_schedule(steps, THRESHOLD_NOISE)))
        reversed_sigmas: Tensor = scheduler.sigmas
        return 1 - reversed_sigmas.float().cpu()

    def velocity(self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        transformer = self.pipeline.transformer
        predicted: Tensor = transformer(
            hidden_states=noisy_latents.to(transformer.dtype),
            timestep=(1 - sigma) * self.pipeline.scheduler.config.num_train_timesteps,
            encoder_hidden_states=conditioning["prompt_embeds"].to(transformer.dtype),
            encoder_attention_mask=conditioning["prompt_attention_mask"],
            return_dict=False,
        )[0]
        return -predicted.float()

    def encode(self, videos: Tensor) -> Tensor:
        vae = self.pipeline.vae
        latents = encoded(vae, videos)
        mean, std = self._statistics(latents)
        normalised: Tensor = (latents - mean) * vae.config.scaling_factor / std
        return normalised

    def unnormalised(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        mean, std = self._statistics(latents)
        raw: Tensor = latents * std / vae.config.scaling_factor + mean
        return raw.to(vae.device, vae.dtype)

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel, (1, C, 1, 1, 1)."""
        config = self.pipeline.vae.config
        shape = (1, like.shape[1], 1, 1, 1)
        if config.latents_mean is None or config.latents_std is None:
            return like.new_zeros(shape), like.new_ones(shape)
        return like.new_tensor(config.latents_mean).view(shape), like.new_tensor(config.latents_std).view(shape)
