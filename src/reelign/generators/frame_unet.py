"""What U-Nets over Stable Diffusion's VAE of single frames share: ModelScope, VideoCrafter2 and AnimateDiff.

An epsilon or v model on a DDPM table, CLIP text through the pipeline's own `encode_prompt`, a latent frame for each
frame of the video. The table may stop short of pure noise and of clean (`DDPM.start` and `finish`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from reelign.diffusion.paths import DDPM
from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator, VideoSize
from reelign.generators.checkpointing import checkpoint_blocks
from reelign.generators.schedules import ddim_sigmas, ddpm_path


class FrameUNet(Generator):
    """A U-Net family; what is its own is its `predict`."""

    path: DDPM
    lora_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    checkpointed: ClassVar[tuple[str, ...]]
    """Class names of the U-Net's blocks whose activations are worth running again."""

    def __init__(self, pipeline: Any, model: str) -> None:
        from diffusers import DDIMScheduler

        scheduler = pipeline.scheduler
        if isinstance(scheduler, DDIMScheduler) and (scheduler.config.clip_sample or scheduler.config.thresholding):
            raise ReelignError(
                f"The scheduler of {model} clips every estimate of the latents, which no flow does.",
                "Set clip_sample and thresholding to false in its scheduler_config.json.",
            )
        super().__init__(pipeline, model)
        self.path = ddpm_path(scheduler, model)
        self.ddim = DDIMScheduler.from_config(scheduler.config)

    @property
    def denoisers(self) -> dict[str, nn.Module]:
        return {"unet": self.pipeline.unet}

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Conditioning:
        embeds, _ = self.pipeline.encode_prompt(
            prompts, self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return Conditioning({"prompt_embeds": embeds})

    def latent_shape(self, size: VideoSize) -> tuple[int, int, int, int]:
        stride = self.pipeline.vae_scale_factor
        channels = self.pipeline.unet.config.in_channels
        return (channels, size.num_frames, size.height // stride, size.width // stride)

    def legal(self, size: VideoSize) -> VideoSize:
        # The pipelines themselves ask for multiples of 8 whatever the VAE's stride.
        step = math.lcm(8, self.pipeline.vae_scale_factor)
        return VideoSize(
            num_frames=max(1, size.num_frames),
            height=max(1, round(size.height / step)) * step,
            width=max(1, round(size.width / step)) * step,
        )

    def sigmas(self, steps: int, shape: Sequence[int] = ()) -> Tensor:
        return ddim_sigmas(self.path, self.ddim, steps)

    def velocity(self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        unet = self.pipeline.unet
        fed = self.path.model_input(noisy_latents, sigma).to(unet.dtype)
        embeds = conditioning["prompt_embeds"].to(unet.dtype)
        predicted = self.predict(fed, self.path.timestep(sigma), embeds)
        return self.path.velocity(predicted.float(), noisy_latents.float(), sigma)

    def predict(self, fed: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
        """The U-Net's own output for its own input (B, C, F, H, W), timesteps (B,) and text (B, tokens, width)."""
        predicted: Tensor = self.pipeline.unet(fed, timestep, encoder_hidden_states=embeds, return_dict=False)[0]
        return predicted

    def encode(self, videos: Tensor) -> Tensor:
        vae = self.pipeline.vae
        pixels = videos.flatten(0, 1).to(vae.device, vae.dtype) * 2 - 1
        frames = vae.encode(pixels).latent_dist.mode().float() * float(vae.config.scaling_factor)
        latents: Tensor = frames.unflatten(0, videos.shape[:2]).transpose(1, 2)
        return latents

    def unnormalised(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        # Multiplied by the reciprocal, as the pipelines round it.
        return (1 / float(vae.config.scaling_factor) * latents).to(vae.device, vae.dtype)

    def enable_activation_checkpointing(self, *, keep_attention: bool = False) -> None:
        checkpoint_blocks(self.pipeline.unet, self.checkpointed, keep_attention=keep_attention)
