"""The parts of Open-Sora 1.2 in one folder, as a diffusers pipeline keeps them; diffusers itself has none for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.loaders import CogVideoXLoraLoaderMixin
from diffusers.utils import BaseOutput
from diffusers.video_processor import VideoProcessor


@dataclass
class OpenSoraOutput(BaseOutput):  # type: ignore[misc]
    frames: torch.Tensor


class OpenSoraPipeline(DiffusionPipeline, CogVideoXLoraLoaderMixin):  # type: ignore[misc]
    """`from_pretrained`, `save_pretrained` and the LoRA methods of any diffusers pipeline with one transformer.

    Args:
        tokenizer: T5's.
        text_encoder: a `T5EncoderModel`.
        transformer: an `STDiT3`.
        vae: an `OpenSoraVAE`.
    """

    model_cpu_offload_seq = "text_encoder->transformer->vae"

    def __init__(self, tokenizer: Any, text_encoder: Any, transformer: Any, vae: Any) -> None:
        super().__init__()
        self.register_modules(tokenizer=tokenizer, text_encoder=text_encoder, transformer=transformer, vae=vae)
        self.video_processor = VideoProcessor(vae_scale_factor=vae.spatial_stride)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str],
        negative_prompt: str = "",
        num_frames: int = 51,
        height: int = 240,
        width: int = 424,
        num_inference_steps: int = 30,
        guidance_scale: float = 7.0,
        generator: torch.Generator | None = None,
        image: Any = None,
        output_type: str = "pt",
    ) -> Any:
        """Videos of prompts, by the family's own sampler.

        Args:
            image: a PIL image that all of them go on from; None for none.
            output_type: "pt" for videos (B, F, 3, H, W) in [0, 1], "latent" for latents (B, C, f, H', W').
        Returns:
            an output whose `frames` they are.
        Raises:
            ReelignError: a size that the model cannot make.
        """
        from reelign.diffusion.samplers import sample_euler
        from reelign.generators.base import Guidance, VideoSize
        from reelign.generators.opensora.family import OpenSora

        family, size = OpenSora(self, self.name_or_path), VideoSize(num_frames, height, width)
        family.check(size)
        prompts = [prompt] if isinstance(prompt, str) else prompt
        text = family.encode_prompts(prompts)
        negative = family.encode_prompts([negative_prompt] * len(prompts))
        if image is not None:
            pixels = self.video_processor.numpy_to_pt(self.video_processor.pil_to_numpy(image.convert("RGB")))
            first = family.encode_condition(pixels.repeat(len(prompts), 1, 1, 1), size)
            text, negative = text.joined(first), negative.joined(first)
        guidance = Guidance(guidance_scale, negative)
        shape = family.latent_shape(size)
        noise = torch.randn((len(prompts), *shape), generator=generator).to(family.device)
        sigmas = family.sigmas(num_inference_steps, shape).to(family.device)
        latents = sample_euler(lambda z, sigma: family.guided_velocity(z, sigma, text, guidance), noise, sigmas)
        return OpenSoraOutput(frames=latents if output_type == "latent" else family.decode(latents))
