"""Wan 2.1 text-to-video (`WanPipeline`): a rectified-flow transformer over a causal 3D VAE, UMT5 text.

Wan 2.2 comes in the same pipeline classes; what `model_index.json` says of them decides the class (`variant`).

Facts that matter here: the VAE takes 4k + 1 frames and drops the rest in silence; text embeddings are zeroed past
the prompt's length and no mask is passed, so the padded length is part of the conditioning; the model's timestep is
sigma times the scheduler's training steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from reelign.generators.base import Conditioning, Generator, SamplingDefaults, VideoSize
from reelign.generators.pixels import encoded
from reelign.generators.sizes import causal_shape

MAX_SEQUENCE_LENGTH = 512

ORIGINAL_NAMES = (
    ("transformer.", "diffusion_model."),
    (".attn1.", ".self_attn."),
    (".attn2.", ".cross_attn."),
    (".to_q.", ".q."),
    (".to_k.", ".k."),
    (".to_v.", ".v."),
    (".add_k_proj.", ".k_img."),
    (".add_v_proj.", ".v_img."),
    (".to_out.0.", ".o."),
    (".ffn.net.0.proj.", ".ffn.0."),
    (".ffn.net.2.", ".ffn.2."),
)
"""Parts of diffusers' key names and of Wan's own (github.com/Wan-Video/Wan2.1, wan/modules/model.py)."""

MAGNITUDE, COMFYUI_MAGNITUDE = ".lora_magnitude_vector", ".dora_scale"
"""What peft and ComfyUI (comfy/lora.py, as of v0.3.77) call the magnitudes of a DoRA. ComfyUI reads them as those of
the base's rows where the paper has the adapted weight's: its weights are off by the ratio of the two norms."""


class Wan(Generator):
    """Wan 2.1 T2V through its diffusers pipeline."""

    pipeline_classes: ClassVar[tuple[str, ...]] = ("WanPipeline",)
    lora_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")
    family_defaults: ClassVar[SamplingDefaults] = SamplingDefaults(
        num_frames=81, height=480, width=832, fps=16.0, guidance_scale=5.0, num_inference_steps=50
    )

    def __init__(self, pipeline: Any, model: str) -> None:
        super().__init__(pipeline, model)
        config = pipeline.vae.config
        self.latents_mean = torch.tensor(config.latents_mean).view(1, -1, 1, 1, 1)
        self.latents_std = torch.tensor(config.latents_std).view(1, -1, 1, 1, 1)

    @classmethod
    def variant(cls, index: Mapping[str, Any]) -> type[Generator]:
        from reelign.generators.wan22 import wan22_variant

        return wan22_variant(index) or cls

    @property
    def denoisers(self) -> dict[str, nn.Module]:
        return {"transformer": self.pipeline.transformer}

    @property
    def patch(self) -> tuple[int, int, int]:
        frames, height, width = self.pipeline.transformer.config.patch_size
        return frames, height, width

    @property
    def max_sequence_length(self) -> int:
        """The padded prompt length: the tokenizer's own where it states a smaller one than Wan's 512."""
        return int(min(MAX_SEQUENCE_LENGTH, self.pipeline.tokenizer.model_max_length))

    @property
    def call_arguments(self) -> dict[str, Any]:
        return {"max_sequence_length": self.max_sequence_length}

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Conditioning:
        embeds, _ = self.pipeline.encode_prompt(
            prompts, do_classifier_free_guidance=False, max_sequence_length=self.max_sequence_length
        )
        return Conditioning({"prompt_embeds": embeds})

    @classmethod
    def original_lora_names(cls, layers: dict[str, Tensor]) -> dict[str, Tensor]:
        renamed = {}
        for name, tensor in layers.items():
            for ours, original in ORIGINAL_NAMES:
                name = name.replace(ours, original)
            if name.endswith(MAGNITUDE):
                # A column: ComfyUI divides it by the norms of the weight's rows, (outputs, 1).
                name, tensor = name.removesuffix(MAGNITUDE) + COMFYUI_MAGNITUDE, tensor[:, None]
            renamed[name] = tensor
        return renamed

    def latent_shape(self, size: VideoSize) -> tuple[int, int, int, int]:
        config = self.pipeline.vae.config
        return causal_shape(
            size,
            channels=self.pipeline.transformer.config.in_channels,
            stride=config.scale_factor_temporal,
            side=config.scale_factor_spatial,
        )

    def legal(self, size: VideoSize) -> VideoSize:
        config = self.pipeline.vae.config
        patch_frames, patch_height, patch_width = self.pipeline.transformer.config.patch_size
        # The pipeline itself asks for multiples of 16 whatever the VAE's stride.
        step_height = max(16, config.scale_factor_spatial * patch_height)
        step_width = max(16, config.scale_factor_spatial * patch_width)
        stride = config.scale_factor_temporal
        latent_frames = max(1, round(((size.num_frames - 1) / stride + 1) / patch_frames)) * patch_frames
        return VideoSize(
            num_frames=(latent_frames - 1) * stride + 1,
            height=max(1, round(size.height / step_height)) * step_height,
            width=max(1, round(size.width / step_width)) * step_width,
        )

    def sigmas(self, steps: int, shape: Sequence[int] = ()) -> Tensor:
        self.pipeline.scheduler.set_timesteps(steps)
        sigmas: Tensor = self.pipeline.scheduler.sigmas
        return sigmas.float().cpu()

    def velocity(self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        return self.denoised_by(self.pipeline.transformer, noisy_latents, sigma, conditioning)

    def denoised_by(self, transformer: Any, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        """One call of this transformer, for its velocity."""
        inputs = self.inputs(noisy_latents, conditioning)
        predicted: Tensor = transformer(
            timestep=sigma * self.pipeline.scheduler.config.num_train_timesteps,
            return_dict=False,
            **{name: tensor.to(transformer.dtype) for name, tensor in inputs.items()},
        )[0]
        return predicted.float()

    def inputs(self, noisy_latents: Tensor, conditioning: Conditioning) -> dict[str, Tensor]:
        """What a transformer takes beside the timestep, by its arguments' names."""
        return {"hidden_states": noisy_latents, "encoder_hidden_states": conditioning["prompt_embeds"]}

    def encode(self, videos: Tensor) -> Tensor:
        latents = encoded(self.pipeline.vae, videos)
        normalised: Tensor = (latents - self.latents_mean.to(latents)) / self.latents_std.to(latents)
        return normalised

    def unnormalised(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        # Divided by the reciprocal, as the pipeline rounds it.
        raw = latents / (1 / self.latents_std.to(latents)) + self.latents_mean.to(latents)
        return raw.to(vae.device, vae.dtype)
