"""ModelScope and ZeroScope text-to-video (`TextToVideoSDPipeline`): an epsilon U-Net over a VAE of single frames.

Wang et al. 2023, arXiv:2308.06571. Facts that matter here: the noise table stops short of pure noise and of clean
(`DDPM.start` and `finish`); the U-Net has dropout, which is off in eval(); in diffusers it has neither LoRA methods nor
gradient checkpointing, so it is given both here, on the instance, and is saved as the class it was.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from reelign.diffusion.paths import DDPM
from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator, SamplingDefaults, VideoSize
from reelign.generators.checkpointing import run_again, run_again_but_attention
from reelign.generators.schedules import ddim_sigmas, ddpm_path

CHECKPOINTED = ("ResnetBlock2D", "TemporalConvLayer", "Transformer2DModel", "TransformerTemporalModel")
"""Classes of the U-Net's blocks whose activations are worth running again."""


class ModelScope(Generator):
    """ModelScope text-to-video and its fine-tunes through their diffusers pipeline."""

    pipeline_classes: ClassVar[tuple[str, ...]] = ("TextToVideoSDPipeline",)
    path: DDPM
    adapter_line: ClassVar[str] = (
        "from diffusers.loaders.peft import PeftAdapterMixin; "
        "diffusers.UNet3DConditionModel.__bases__ += (PeftAdapterMixin,)"
    )
    lora_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    family_defaults: ClassVar[SamplingDefaults] = SamplingDefaults(
        num_frames=16, height=256, width=256, fps=8.0, guidance_scale=9.0, num_inference_steps=50
    )

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
        add_lora_methods(pipeline.unet)

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
        # The pipeline itself asks for multiples of 8 whatever the VAE's stride.
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
        predicted: Tensor = unet(
            self.path.model_input(noisy_latents, sigma).to(unet.dtype),
            self.path.timestep(sigma),
            encoder_hidden_states=conditioning["prompt_embeds"].to(unet.dtype),
            return_dict=False,
        )[0]
        return self.path.velocity(predicted.float(), noisy_latents.float(), sigma)

    def encode(self, videos: Tensor) -> Tensor:
        vae = self.pipeline.vae
        pixels = videos.flatten(0, 1).to(vae.device, vae.dtype) * 2 - 1
        frames = vae.encode(pixels).latent_dist.mode().float() * float(vae.config.scaling_factor)
        latents: Tensor = frames.unflatten(0, videos.shape[:2]).transpose(1, 2)
        return latents

    def unnormalised(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        # Multiplied by the reciprocal, as the pipeline rounds it.
        return (1 / float(vae.config.scaling_factor) * latents).to(vae.device, vae.dtype)

    def enable_activation_checkpointing(self, *, keep_attention: bool = False) -> None:
        again = run_again_but_attention if keep_attention else run_again
        for module in self.pipeline.unet.modules():
            if type(module).__name__ in CHECKPOINTED:
                # In place, not wrapped in a module of torch's: that would rename every parameter.
                module.forward = functools.partial(again, type(module).forward.__get__(module))


def add_lora_methods(unet: Any) -> None:
    """Bind diffusers' adapter methods, which `UNet3DConditionModel` lacks, to one instance.

    With them the pipeline's own `load_lora_weights` and `save_lora_weights` work on it. A subclass would do the same,
    but would then be written into the folder by `save_pretrained` as a class that diffusers does not know.
    """
    from diffusers.loaders.peft import PeftAdapterMixin

    if isinstance(unet, PeftAdapterMixin):
        return
    for name, attribute in vars(PeftAdapterMixin).items():
        if not name.startswith("__"):
            setattr(unet, name, attribute.__get__(unet) if hasattr(attribute, "__get__") else attribute)
