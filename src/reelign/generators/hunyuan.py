"""HunyuanVideo text-to-video (`HunyuanVideoPipeline`): a rectified-flow transformer over a causal 3D VAE, LLaMA text.

Kong et al. 2024, arXiv:2412.03603. Facts that matter here: the released model is guidance-distilled, the scale is an
embedding times 1000 beside the timestep and one pass does; text is what LLaMA-3 makes of a template with the prompt in
it, the template's own 95 tokens cut off, so that the tokenizer must pad on the right, and is masked past its length;
CLIP's pooled text goes into the modulation; the VAE works in tiles of 16 frames that are blended, so that its decode of
a long clip is not that of its layers run over all frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator, Guidance, SamplingDefaults, VideoSize
from reelign.generators.pixels import encoded
from reelign.generators.sizes import causal_shape, nearest_size

TRAINING_GUIDANCE = 1.0
"""The embedded scale of `velocity`: at 1 a distilled model is that of its data's own distribution, where velocity
errors mean what they do for any other model, and where its adapters are commonly trained."""
EMBEDDED = 1000.0
"""What a scale is multiplied by before it is embedded."""
MAX_SEQUENCE_LENGTH = 256
"""Tokens of the prompt, the template's not counted."""
TEMPLATE_LENGTH = 95
"""Tokens of the template before the prompt, which are cut off."""


class HunyuanVideo(Generator):
    """HunyuanVideo 1.0 T2V through its diffusers pipeline.

    A checkpoint without guidance embedding is guided by a second pass, the pipeline's `true_cfg_scale`.
    """

    pipeline_classes: ClassVar[tuple[str, ...]] = ("HunyuanVideoPipeline",)
    image_condition: ClassVar[tuple[str | None, ...]] = (None,)
    """Ways in which the denoisers of `pipeline_classes` take an image; None is not at all."""
    template_length: ClassVar[int] = TEMPLATE_LENGTH
    lora_targets: ClassVar[tuple[str, ...]] = (
        *("to_q", "to_k", "to_v", "to_out.0"),
        *("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
    )
    family_defaults: ClassVar[SamplingDefaults] = SamplingDefaults(
        num_frames=129, height=720, width=1280, fps=24.0, guidance_scale=6.0, num_inference_steps=50
    )

    def __init__(self, pipeline: Any, model: str) -> None:
        condition = pipeline.transformer.config.image_condition_type
        if condition not in self.image_condition:
            raise ReelignError(
                f"The denoiser of {model} takes images by {condition}, which a {type(pipeline).__name__} gives it not.",
                "Compare its model_index.json and transformer/config.json with those that its authors published.",
            )
        super().__init__(pipeline, model)
        # Llama's tokenizers pad on the left where their config does not say, and the crop would take the prompt.
        pipeline.tokenizer.padding_side = "right"

    @property
    def denoisers(self) -> dict[str, nn.Module]:
        return {"transformer": self.pipeline.transformer}

    @property
    def patch(self) -> tuple[int, int, int]:
        config = self.pipeline.transformer.config
        return config.patch_size_t, config.patch_size, config.patch_size

    @property
    def max_sequence_length(self) -> int:
        """The padded prompt length: the tokenizer's own where it states a smaller one than 256 behind the template."""
        return int(min(MAX_SEQUENCE_LENGTH, self.pipeline.tokenizer.model_max_length - self.template_length))

    @property
    def call_arguments(self) -> dict[str, Any]:
        return {"max_sequence_length": self.max_sequence_length}

    @property
    def takes_negative_prompts(self) -> bool:
        return not self.pipeline.transformer.config.guidance_embeds

    def pipeline_call(self, arguments: dict[str, Any]) -> dict[str, Any]:
        if not self.pipeline.transformer.config.guidance_embeds:
            arguments = {**arguments, "true_cfg_scale": arguments["guidance_scale"]}
        return super().pipeline_call(arguments)

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Conditioning:
        embeds, pooled, mask = self.pipeline.encode_prompt(prompts, max_sequence_length=self.max_sequence_length)
        return Conditioning({"prompt_embeds": embeds, "pooled_prompt_embeds": pooled, "prompt_attention_mask": mask})

    def latent_shape(self, size: VideoSize) -> tuple[int, int, int, int]:
        pipeline = self.pipeline
        return causal_shape(
            size,
            channels=pipeline.vae.config.latent_channels,
            stride=pipeline.vae_scale_factor_temporal,
            side=pipeline.vae_scale_factor_spatial,
        )

    def legal(self, size: VideoSize) -> VideoSize:
        # The pipeline itself asks for multiples of 16 whatever the VAE's stride.
        step = math.lcm(16, self.pipeline.vae_scale_factor_spatial * self.patch[1])
        return nearest_size(size, step=step, stride=self.pipeline.vae_scale_factor_temporal)

    def sigmas(self, steps: int, shape: Sequence[int] = ()) -> Tensor:
        return flow_sigmas(self.pipeline.scheduler, steps)

    def velocity(self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        return self.embedded_velocity(noisy_latents, sigma, conditioning, TRAINING_GUIDANCE)

    def guided_velocity(
        self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning, guidance: Guidance
    ) -> Tensor:
        """By the embedded scale, of 1 and less too; a negative prompt plays no part in it."""
        if not self.pipeline.transformer.config.guidance_embeds:
            return super().guided_velocity(noisy_latents, sigma, conditioning, guidance)
        return self.embedded_velocity(noisy_latents, sigma, conditioning, guidance.scale)

    def embedded_velocity(
        self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning, scale: float
    ) -> Tensor:
        """The velocity (B, C, F, H, W) at an embedded guidance scale."""
        transformer = self.pipeline.transformer
        dtype = transformer.dtype
        # In the model's precision, as its authors and the pipeline round it.
        guidance = torch.full(sigma.shape, scale, dtype=dtype, device=sigma.device) * EMBEDDED
        predicted: Tensor = transformer(
            hidden_states=self.model_input(noisy_latents, conditioning).to(dtype),
            timestep=sigma * self.pipeline.scheduler.config.num_train_timesteps,
            encoder_hidden_states=conditioning["prompt_embeds"].to(dtype),
            encoder_attention_mask=conditioning["prompt_attention_mask"].to(dtype),
            pooled_projections=conditioning["pooled_prompt_embeds"].to(dtype),
            guidance=guidance,
            return_dict=False,
        )[0]
        return predicted.float()

    def model_input(self, noisy_latents: Tensor, conditioning: Conditioning) -> Tensor:
        """What the denoiser takes as its latents."""
        return noisy_latents

    def encode(self, videos: Tensor) -> Tensor:
        vae = self.pipeline.vae
        return encoded(vae, videos) * float(vae.config.scaling_factor)

    def unnormalised(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        return latents.to(vae.device, vae.dtype) / float(vae.config.scaling_factor)


def flow_sigmas(scheduler: Any, steps: int) -> Tensor:
    """(steps + 1,) the levels of a flow scheduler's shift over `steps` even ones from 1 on, and 0."""
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, steps + 1)[:-1])
    sigmas: Tensor = scheduler.sigmas
    return sigmas.float().cpu()
