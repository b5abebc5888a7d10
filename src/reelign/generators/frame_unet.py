"""What U-Nets over Stable Diffusion's VAE of single frames share: ModelScope, VideoCrafter2 and AnimateDiff.

An epsilon or v model on a DDPM table, CLIP text through the pipeline's own `encode_prompt`, a latent frame for each
frame of the video. The table may stop short of pure noise and of clean (`DDPM.start` and `finish`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from reelign.diffusion.paths import DDPM
from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, VideoSize
from reelign.generators.frame_vae import FrameVAE
from reelign.generators.schedules import ddim_sigmas, ddpm_path
from reelign.generators.sizes import nearest_size


class FrameUNet(FrameVAE):
    """A U-Net family; what is its own is its `predict`."""

    path: DDPM
    lora_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")

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

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Conditioning:
        embeds, _ = self.pipeline.encode_prompt(
            prompts, self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return Conditioning({"prompt_embeds": embeds})

    def legal(self, size: VideoSize) -> VideoSize:
        # The pipelines themselves ask for multiples of 8 whatever the VAE's stride.
        return nearest_size(size, step=math.lcm(8, self.pipeline.vae_scale_factor))

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
