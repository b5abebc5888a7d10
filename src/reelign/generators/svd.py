"""Stable Video Diffusion image-to-video (`StableVideoDiffusionPipeline`): an EDM U-Net over a VAE of single frames with
a decoder over time.

Blattmann et al. 2023, arXiv:2311.15127. Facts that matter here: it reads no text, so that prompts are names alone and
what a video is made of is its image, as CLIP's one token and as latents beside every noisy frame, unscaled and with a
little noise; guidance grows along the clip, from none at the first frame to the scale at the last, away from an image
of zeros; the U-Net is told ln σ / 4, frames a second less one, how much motion and how much noise the image bears. All
frames are made, the first too. To one token attention has nothing to choose: its queries and keys never learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing
from torch import Tensor

from reelign.diffusion.flow import canonical_sigma
from reelign.diffusion.paths import EDM
from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Guidance, SamplingDefaults, VideoSize
from reelign.generators.decoding.decoders import decoder_of
from reelign.generators.decoding.video import VideoDecoder
from reelign.generators.frame_vae import FrameVAE
from reelign.generators.modelscope import add_lora_methods
from reelign.generators.pictures import as_pictures, normalised, wide
from reelign.generators.sizes import nearest_size

NOISE_SEED = 0
"""Of the noise on every image: what a video is made of is the same whenever it is encoded."""


class StableVideoDiffusion(FrameVAE):
    """Stable Video Diffusion, 14 frames and XT, through its diffusers pipeline."""

    pipeline_classes: ClassVar[tuple[str, ...]] = ("StableVideoDiffusionPipeline",)
    # P_mean and P_std of the paper's image-to-video training (its appendix, as those who fine-tune the model quote it:
    # alibaba/animate-anything issue 34, pixeli99/SVD_Xtend); Stability's code has no training configuration of it.
    path: EDM = EDM(mean=0.7, std=1.6)
    lora_targets: ClassVar[tuple[str, ...]] = ("attn1.to_q", "attn1.to_k", "to_v", "to_out.0")
    checkpointed: ClassVar[tuple[str, ...]] = ("SpatioTemporalResBlock", "TransformerSpatioTemporalModel")
    adapter_line: ClassVar[str] = (
        "from diffusers.loaders import StableDiffusionLoraLoaderMixin; "
        "from diffusers.loaders.peft import PeftAdapterMixin; "
        "type(pipe).__bases__ += (StableDiffusionLoraLoaderMixin,); type(pipe).text_encoder = None; "
        "type(pipe.unet).__bases__ += (PeftAdapterMixin,)"
    )
    family_defaults: ClassVar[SamplingDefaults] = SamplingDefaults(
        num_frames=14, height=576, width=1024, fps=7.0, guidance_scale=3.0, num_inference_steps=25
    )
    family_told: ClassVar[dict[str, float]] = {
        "fps": 7,
        "motion_bucket_id": 127,
        "noise_aug_strength": 0.02,
        "decode_chunk_size": 0,
    }
    """`decode_chunk_size` is how many frames the decoder sees at a time, 0 for all."""

    @classmethod
    def pipeline_type(cls, name: str) -> Any:
        from diffusers.loaders import StableDiffusionLoraLoaderMixin

        # The loader that U-Nets share; diffusers gives this pipeline none.
        return type(name, (super().pipeline_type(name), StableDiffusionLoraLoaderMixin), {"text_encoder": None})

    def __init__(self, pipeline: Any, model: str) -> None:
        config = pipeline.scheduler.config
        if config.prediction_type != "v_prediction" or config.get("timestep_type") != "continuous":
            raise ReelignError(
                f"The scheduler of {model} is not EDM's with v_prediction and continuous timesteps.",
                "Compare its scheduler_config.json with that of stabilityai/stable-video-diffusion-img2vid.",
            )
        super().__init__(pipeline, model)
        add_lora_methods(pipeline.unet)

    @property
    def call_arguments(self) -> dict[str, Any]:
        told = dict(self.told)
        chunk = int(told.pop("decode_chunk_size"))
        return {**told, **({"decode_chunk_size": chunk} if chunk else {})}

    def pipeline_call(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """By the names that this pipeline has; it takes no prompt and none to lead away from."""
        renamed = {name: each for name, each in arguments.items() if name not in ("guidance_scale", "negative_prompt")}
        call = super().pipeline_call({**renamed, "max_guidance_scale": arguments["guidance_scale"]})
        return {**call, "reads_prompts": False}

    def encode_prompts(self, prompts: list[str]) -> Conditioning:
        return Conditioning({"prompt_embeds": torch.zeros(len(prompts), 0, device=self.device)})

    @torch.no_grad()
    def encode_condition(self, images: Tensor, size: VideoSize) -> Conditioning:
        pipeline, pictures = self.pipeline, as_pictures(images)
        embeds = pipeline._encode_image(pictures, self.device, 1, False)
        pixels = pipeline.video_processor.preprocess(pictures, height=size.height, width=size.width).float()
        return Conditioning({"image_embeds": embeds, "image_latents": self._image_latents(pixels)})

    def continue_from(self, frames: Tensor, size: VideoSize) -> Conditioning:
        pixels = wide(frames)
        encoder = self.pipeline.image_encoder
        seen = normalised((_resize_with_antialiasing(pixels, (224, 224)) + 1) / 2, self.pipeline.feature_extractor)
        embeds = encoder(seen.to(encoder.device, encoder.dtype)).image_embeds[:, None]
        return Conditioning({"image_embeds": embeds.to(self.device), "image_latents": self._image_latents(pixels)})

    def _image_latents(self, pixels: Tensor) -> Tensor:
        """Of pixels (B, 3, H, W) in [-1, 1], with a little noise, unscaled."""
        vae = self.pipeline.vae
        noise = torch.randn(pixels.shape[1:], generator=torch.Generator().manual_seed(NOISE_SEED)).to(pixels)
        noisy = pixels + self.told["noise_aug_strength"] * noise
        latents: Tensor = vae.encode(noisy.to(vae.device, vae.dtype)).latent_dist.mode().float()
        return latents

    def legal(self, size: VideoSize) -> VideoSize:
        # Levels that halve exactly, of which the U-Net's skip connections are made.
        return nearest_size(size, step=max(8, self.halved))

    def packed(self, latents: Tensor) -> Tensor:
        return latents.transpose(1, 2)

    def unpacked(self, held: Tensor, shape: Sequence[int]) -> Tensor:
        return held.transpose(1, 2)

    def sigmas(self, steps: int, shape: Sequence[int] = ()) -> Tensor:
        self.pipeline.scheduler.set_timesteps(steps)
        own = self.pipeline.scheduler.sigmas.double().cpu()
        return canonical_sigma(torch.ones_like(own), own).float()

    def velocity(self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        if "image_latents" not in conditioning.tensors:
            raise ReelignError(
                f"{self.model} makes videos of images, and there is none.", "Give every prompt an image."
            )
        unet = self.pipeline.unet
        fed = self.path.model_input(noisy_latents.float(), sigma)
        image = conditioning["image_latents"].to(fed)[:, :, None].expand_as(fed)
        told = [self.told["fps"] - 1, self.told["motion_bucket_id"], self.told["noise_aug_strength"]]
        predicted: Tensor = unet(
            torch.cat([fed, image], dim=1).transpose(1, 2).to(unet.dtype),
            0.25 * (sigma / (1 - sigma)).log(),
            encoder_hidden_states=conditioning["image_embeds"].to(unet.dtype),
            added_time_ids=torch.tensor([told] * len(fed), dtype=unet.dtype, device=fed.device),
            return_dict=False,
        )[0]
        return self.path.velocity(predicted.transpose(1, 2).float(), noisy_latents.float(), sigma)

    def guided_velocity(
        self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning, guidance: Guidance
    ) -> Tensor:
        positive = self.velocity(noisy_latents, sigma, conditioning)
        if not guidance.active:
            return positive
        nothing = Conditioning({name: torch.zeros_like(each) for name, each in conditioning.tensors.items()})
        negative = self.velocity(noisy_latents, sigma, nothing)
        scales = torch.linspace(1, guidance.scale, noisy_latents.shape[2], device=positive.device)
        return negative + scales[:, None, None] * (positive - negative)

    @property
    def decoder(self) -> VideoDecoder:
        chunk = int(self.told["decode_chunk_size"])
        return decoder_of(self.pipeline.vae, frames_per_piece=chunk or None)
