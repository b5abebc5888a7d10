"""CogVideoX 2B, 5B and 1.5 5B (`CogVideoXPipeline`): a v-prediction transformer over a causal 3D VAE, T5 text.

Yang et al. 2024, arXiv:2408.06072. Facts that matter here: the noise table has zero terminal SNR, so sampling starts at
pure noise; the transformer takes latents as (B, F, C, H, W); 2B knows places by sums of sines inside the model, 5B by
rotary embeddings that the pipeline hands in; text is padded to a fixed length without a mask, so the length is part
of the conditioning; the VAE decodes two latent frames at a time and keeps apart only an odd first one, so that a clip
of 8k + 1 frames comes back as it went in, while one of 8k + 5 comes back longer.

1.5 takes two latent frames a token. The odd number of a clip is made even by one more in front: in training a copy of
the first, as in CogVideo's finetune/models/cogvideox_t2v/lora_trainer.py, in sampling made like all others; it is never
decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from reelign.diffusion.paths import DDPM
from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator, SamplingDefaults, VideoSize
from reelign.generators.pixels import encoded
from reelign.generators.schedules import ddim_sigmas, ddpm_path
from reelign.generators.sizes import causal_shape, nearest_size


class CogVideoX(Generator):
    """CogVideoX T2V, 1.0 (2B and 5B) and 1.5, through its diffusers pipeline."""

    pipeline_classes: ClassVar[tuple[str, ...]] = ("CogVideoXPipeline",)
    path: DDPM
    lora_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0")
    family_defaults: ClassVar[SamplingDefaults] = SamplingDefaults(
        num_frames=49, height=480, width=720, fps=8.0, guidance_scale=6.0, num_inference_steps=50
    )

    defaults_15: ClassVar[SamplingDefaults] = SamplingDefaults(
        num_frames=81, height=768, width=1360, fps=16.0, guidance_scale=6.0, num_inference_steps=50
    )

    def __init__(self, pipeline: Any, model: str) -> None:
        if pipeline.transformer.config.patch_size_t not in (None, 2):
            raise ReelignError(
                f"{model} takes {pipeline.transformer.config.patch_size_t} latent frames a token; CogVideoX 1.0 takes "
                "one and 1.5 two.",
                "Compare its transformer/config.json with the one that its authors published.",
            )
        from diffusers import CogVideoXDDIMScheduler

        super().__init__(pipeline, model)
        self.path = ddpm_path(pipeline.scheduler, model)
        self.ddim = CogVideoXDDIMScheduler.from_config(pipeline.scheduler.config)

    @property
    def published_defaults(self) -> SamplingDefaults:
        return self.defaults_15 if self.padding else self.family_defaults

    @property
    def denoisers(self) -> dict[str, nn.Module]:
        return {"transformer": self.pipeline.transformer}

    @property
    def patch(self) -> tuple[int, int, int]:
        size = self.pipeline.transformer.config.patch_size
        return 1 + self.padding, size, size

    @property
    def padding(self) -> int:
        return int(self.pipeline.transformer.config.patch_size_t is not None)

    @property
    def max_sequence_length(self) -> int:
        """The padded prompt length that the transformer was trained on."""
        return int(self.pipeline.transformer.config.max_text_seq_length)

    @property
    def call_arguments(self) -> dict[str, Any]:
        return {"max_sequence_length": self.max_sequence_length}

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Conditioning:
        embeds, _ = self.pipeline.encode_prompt(
            prompts, do_classifier_free_guidance=False, max_sequence_length=self.max_sequence_length
        )
        return Conditioning({"prompt_embeds": embeds})

    def latent_shape(self, size: VideoSize) -> tuple[int, int, int, int]:
        pipeline = self.pipeline
        channels, frames, height, width = causal_shape(
            size,
            channels=pipeline.vae.config.latent_channels,
            stride=pipeline.vae_scale_factor_temporal,
            side=pipeline.vae_scale_factor_spatial,
        )
        return channels, frames + self.padding, height, width

    def legal(self, size: VideoSize) -> VideoSize:
        pipeline = self.pipeline
        # The pipeline itself asks for multiples of 8 whatever the VAE's stride.
        step = max(8, pipeline.vae_scale_factor_spatial * pipeline.transformer.config.patch_size)
        return nearest_size(size, step=step, stride=2 * pipeline.vae_scale_factor_temporal)

    def packed(self, latents: Tensor) -> Tensor:
        return latents.transpose(1, 2)

    def unpacked(self, held: Tensor, shape: Sequence[int]) -> Tensor:
        return held.transpose(1, 2)

    def sigmas(self, steps: int, shape: Sequence[int] = ()) -> Tensor:
        return ddim_sigmas(self.path, self.ddim, steps)

    def velocity(self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        transformer = self.pipeline.transformer
        fed = self.fed(self.path.model_input(noisy_latents, sigma), conditioning)
        predicted: Tensor = transformer(
            hidden_states=fed.transpose(1, 2).to(transformer.dtype),
            timestep=self.path.timestep(sigma),
            ofs=self.offset(noisy_latents),
            encoder_hidden_states=conditioning["prompt_embeds"].to(transformer.dtype),
            image_rotary_emb=self._rotary_embeddings(noisy_latents),
            return_dict=False,
        )[0]
        return self.path.velocity(predicted.transpose(1, 2).float(), noisy_latents.float(), sigma)

    def fed(self, noisy_latents: Tensor, conditioning: Conditioning) -> Tensor:
        """All channels that the transformer takes."""
        return noisy_latents

    def offset(self, noisy_latents: Tensor) -> Tensor | None:
        """The number that some transformers embed beside the timestep."""
        return None

    def _rotary_embeddings(self, noisy_latents: Tensor) -> tuple[Tensor, Tensor] | None:
        pipeline = self.pipeline
        if not pipeline.transformer.config.use_rotary_positional_embeddings:
            return None
        frames, height, width = noisy_latents.shape[2:]
        stride = pipeline.vae_scale_factor_spatial
        embeddings: tuple[Tensor, Tensor] = pipeline._prepare_rotary_positional_embeddings(
            height * stride, width * stride, frames, noisy_latents.device
        )
        return embeddings

    def encode(self, videos: Tensor) -> Tensor:
        vae = self.pipeline.vae
        latents = encoded(vae, videos)
        return torch.cat([latents[:, :, : self.padding], latents], dim=2) * float(vae.config.scaling_factor)

    def unnormalised(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        # Multiplied by the reciprocal, as the pipeline rounds it.
        return (1 / float(vae.config.scaling_factor) * latents[:, :, self.padding :]).to(vae.device, vae.dtype)
