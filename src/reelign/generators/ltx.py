"""LTX-Video 0.9 and 0.9.1 (`LTXPipeline`): a rectified-flow transformer over a VAE of stride 32 and 8, T5 text.

HaCohen et al. 2024, arXiv:2501.00103. Facts that matter here: the transformer takes latents as a sequence of tokens and
is told the clip's size, with positions in seconds and pixels, so that the frame rate is part of the conditioning; the
schedule's shift grows with the number of tokens and its last step begins at a level of its own (`shift_terminal`); text
is padded to a fixed length and masked. From 0.9.1 on the VAE does the last denoising step itself: it is told a timestep
and decodes latents with a little noise. That noise is drawn from one seed here, the same for every video, so that a
video decodes alike in any batch and a reward of it can be asked twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from reelign.diffusion.samplers import initial_noise
from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator, Guidance, SamplingDefaults, VideoSize
from reelign.generators.decoding.decoders import decoder_of
from reelign.generators.decoding.ltx import DECODE_SEED
from reelign.generators.decoding.video import VideoDecoder
from reelign.generators.given_frames import FIRST, first_frame, first_frame_mask, hold, point_at
from reelign.generators.pixels import encoded
from reelign.generators.sizes import causal_shape, nearest_size

MAX_SEQUENCE_LENGTH = 128


@dataclass(frozen=True, slots=True)
class LTXDefaults(SamplingDefaults):
    """How LTX-Video is sampled and decoded; a `reelign.json` beside the weights may say otherwise."""

    guidance_rescale: float = 0.0
    """φ of `rescaled`: how far the guided prediction's spread is brought back to that of the prompt's."""
    decode_timestep: float = 0.05
    """Noise level that a timestep-conditioned VAE takes its latents for (the value that its authors advise)."""
    decode_noise_scale: float = 0.025
    """Share of noise in what such a VAE decodes (theirs too)."""


class LTX(Generator):
    """LTX-Video text-to-video through its diffusers pipeline."""

    pipeline_classes: ClassVar[tuple[str, ...]] = ("LTXPipeline",)
    lora_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2")
    family_defaults: ClassVar[LTXDefaults] = LTXDefaults(
        num_frames=161, height=512, width=704, fps=25.0, guidance_scale=3.0, num_inference_steps=50
    )

    @classmethod
    def pipeline_type(cls, name: str) -> Any:
        # Both of LTX's have the same parts: a folder that names the other family is loaded as that one's.
        return super().pipeline_type(name if name in cls.pipeline_classes else cls.pipeline_classes[0])

    @property
    def denoisers(self) -> dict[str, nn.Module]:
        return {"transformer": self.pipeline.transformer}

    @property
    def settings(self) -> LTXDefaults:
        defaults = self.defaults
        assert isinstance(defaults, LTXDefaults)
        return defaults

    @property
    def max_sequence_length(self) -> int:
        return int(min(MAX_SEQUENCE_LENGTH, self.pipeline.tokenizer.model_max_length))

    @property
    def call_arguments(self) -> dict[str, Any]:
        settings = self.settings
        arguments = {"max_sequence_length": self.max_sequence_length, "frame_rate": settings.fps}
        if settings.guidance_rescale:
            arguments["guidance_rescale"] = settings.guidance_rescale
        if self.pipeline.vae.config.timestep_conditioning:
            names = ("decode_timestep", "decode_noise_scale")
            arguments.update({name: getattr(settings, name) for name in names})
        return arguments

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Conditioning:
        embeds, mask, *_ = self.pipeline.encode_prompt(
            prompts, do_classifier_free_guidance=False, max_sequence_length=self.max_sequence_length
        )
        return Conditioning({"prompt_embeds": embeds, "prompt_attention_mask": mask})

    def latent_shape(self, size: VideoSize) -> tuple[int, int, int, int]:
        pipeline = self.pipeline
        return causal_shape(
            size,
            channels=pipeline.transformer.config.in_channels,
            stride=pipeline.vae_temporal_compression_ratio,
            side=pipeline.vae_spatial_compression_ratio,
        )

    def legal(self, size: VideoSize) -> VideoSize:
        # The pipeline itself asks for multiples of 32 whatever the VAE's stride.
        step = math.lcm(32, self.pipeline.vae_spatial_compression_ratio)
        return nearest_size(size, step=step, stride=self.pipeline.vae_temporal_compression_ratio)

    def packed(self, latents: Tensor) -> Tensor:
        return latents.flatten(2).transpose(1, 2)

    def unpacked(self, held: Tensor, shape: Sequence[int]) -> Tensor:
        latents: Tensor = held.transpose(1, 2).unflatten(2, shape[2:])
        return latents

    def sigmas(self, steps: int, shape: Sequence[int]) -> Tensor:
        scheduler, config = self.pipeline.scheduler, self.pipeline.scheduler.config
        if steps < 2 and config.shift_terminal:
            raise ReelignError(
                f"The schedule of {self.model} has a first and a last level, and {steps} step has not room for both.",
                "Set num_inference_steps to at least 2.",
            )
        # A straight line through (base_image_seq_len, base_shift) and (max_image_seq_len, max_shift).
        fewest, most = config.base_image_seq_len, config.max_image_seq_len
        share = (self.tokens(shape) - fewest) / (most - fewest)
        mu = config.base_shift + share * (config.max_shift - config.base_shift)
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
        sigmas: Tensor = scheduler.sigmas
        return sigmas.float().cpu()

    def velocity(self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        return self._led(self._predicted(noisy_latents, sigma, conditioning), noisy_latents, sigma, conditioning)

    def guided_velocity(
        self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning, guidance: Guidance
    ) -> Tensor:
        """Two passes, and the pipeline's `guidance_rescale` where the defaults ask for it."""
        predicted = self._predicted(noisy_latents, sigma, conditioning)
        if guidance.active and guidance.negative is not None:
            negative = self._predicted(noisy_latents, sigma, guidance.negative)
            guided = negative + guidance.scale * (predicted - negative)
            predicted = rescaled(guided, predicted, self.settings.guidance_rescale)
        return self._led(predicted, noisy_latents, sigma, conditioning)

    def _predicted(self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        """What the denoiser says, (B, C, F, H, W); of frames that are given it says something too."""
        transformer = self.pipeline.transformer
        given = self.clean_mask(noisy_latents.shape, conditioning)
        fed = noisy_latents if given is None else hold(noisy_latents, conditioning[FIRST], given)
        timestep = sigma * self.pipeline.scheduler.config.num_train_timesteps
        if given is not None:  # a timestep for each token, 0 where latents are given
            timestep = timestep[:, None] * (~given).flatten(1)
        tokens: Tensor = transformer(
            hidden_states=self.packed(fed).to(transformer.dtype),
            timestep=timestep,
            encoder_hidden_states=conditioning["prompt_embeds"].to(transformer.dtype),
            encoder_attention_mask=conditioning["prompt_attention_mask"],
            return_dict=False,
            **self.positions(noisy_latents.shape, noisy_latents.device),
        )[0]
        return self.unpacked(tokens.float(), noisy_latents.shape)

    def positions(self, shape: Sequence[int], device: torch.device) -> dict[str, Any]:
        """What tells the transformer where the tokens of latents of `shape` (B, C, F, H, W) stand."""
        pipeline, (frames, height, width) = self.pipeline, shape[2:]
        stride = pipeline.vae_spatial_compression_ratio
        scale = (pipeline.vae_temporal_compression_ratio / self.settings.fps, stride, stride)
        return {"num_frames": frames, "height": height, "width": width, "rope_interpolation_scale": scale}

    def _led(self, velocity: Tensor, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        given = self.clean_mask(noisy_latents.shape, conditioning)
        return velocity if given is None else point_at(velocity, noisy_latents, conditioning[FIRST], given, sigma)

    def encode(self, videos: Tensor) -> Tensor:
        vae = self.pipeline.vae
        latents = encoded(vae, videos)
        mean, std = (each.view(1, -1, 1, 1, 1).to(latents) for each in (vae.latents_mean, vae.latents_std))
        normalised: Tensor = (latents - mean) * vae.config.scaling_factor / std
        return normalised

    def unnormalised(self, latents: Tensor) -> Tensor:
        """With the noise that a timestep-conditioned VAE expects."""
        vae, share = self.pipeline.vae, self.settings.decode_noise_scale
        mean, std = (each.view(1, -1, 1, 1, 1).to(latents) for each in (vae.latents_mean, vae.latents_std))
        raw: Tensor = latents * std / vae.config.scaling_factor + mean
        if vae.config.timestep_conditioning:
            noise = initial_noise((1, *raw.shape[1:]), [DECODE_SEED], raw.device).to(raw.dtype)
            raw = (1 - share) * raw + share * noise
        return raw.to(vae.device, vae.dtype)

    @property
    def decoder(self) -> VideoDecoder:
        return decoder_of(self.pipeline.vae, timestep=self.settings.decode_timestep)


class FirstFrame(LTX):
    """LTX-Video whose clips go on from a first frame, which stands among the latents as it is.

    The same weights as text-to-video's. The pipelines draw the frame's latents from the VAE's posterior; here they are
    its mode.
    """

    def encode_condition(self, images: Tensor, size: VideoSize) -> Conditioning:
        return first_frame(self, images, size)

    def clean_mask(self, shape: Sequence[int], conditioning: Conditioning) -> Tensor | None:
        return first_frame_mask(shape, conditioning[FIRST].device)


class LTXImageToVideo(FirstFrame):
    """LTX-Video image-to-video through its diffusers pipeline."""

    pipeline_classes: ClassVar[tuple[str, ...]] = ("LTXImageToVideoPipeline",)


def rescaled(guided: Tensor, positive: Tensor, share: float) -> Tensor:
    """A guided prediction, its standard deviation brought towards that of the prompt's own.

    Lin et al. 2023 (arXiv:2305.08891), eqs. 15 and 16: `φ·(σ_positive / σ_guided)·guided + (1 - φ)·guided`.

    Args:
        guided: (B, ...) after guidance.
        positive: of the prompt alone, before it.
        share: φ in [0, 1]; 0 leaves `guided` as it is.
    """
    if share == 0:
        return guided
    ratio = positive.flatten(1).std(dim=1) / guided.flatten(1).std(dim=1)
    return guided * (share * ratio + 1 - share).reshape(-1, *[1] * (guided.ndim - 1))
