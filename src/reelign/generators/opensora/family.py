"""Open-Sora 1.2 (`OpenSoraPipeline`, made by `opensora.convert`): STDiT3 over a VAE of 17-frame chunks, T5 text.

Zheng et al. 2024, arXiv:2412.20404; constants from the released configuration (v1.2.0, configs/opensora-v1-2). Facts
that matter here: the model says latents - noise, so its sign is turned; larger and longer clips are sampled at higher
noise; it is told the frame rate, and the size in pixels sets the distance between places; the unconditional side of
guidance is learned features of no text, of which it sees as many tokens as the prompt has; a picture is a video of 120
frames per second; frames that are given are told to the model as such, one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from reelign.generators.base import Conditioning, Generator, Guidance, SamplingDefaults, VideoSize
from reelign.generators.given_frames import FIRST, first_frame, first_frame_mask, hold, point_at
from reelign.generators.opensora.text import cleaned, with_score

TIMESTEPS = 1000
PICTURE_FPS = 120.0
"""The frame rate that a single frame is said to have."""
SHIFT_SIDE = 512
"""Side in pixels of the picture whose schedule is not shifted."""


class OpenSora(Generator):
    """Open-Sora 1.2 through a pipeline of our own.

    `encode_prompts` gives `prompt_embeds` (B, 300, 4096), `prompt_attention_mask` (B, 300) and `unconditional` (B,),
    true for the empty string, whose features are those of no text.
    """

    pipeline_classes: ClassVar[tuple[str, ...]] = ("OpenSoraPipeline",)
    # Not "proj": the layer that cuts latents into patches ends in it too.
    lora_targets: ClassVar[tuple[str, ...]] = ("qkv", "q_linear", "kv_linear", "attn.proj", "cross_attn.proj")
    family_told: ClassVar[dict[str, float]] = {"fps": 24.0}
    family_defaults: ClassVar[SamplingDefaults] = SamplingDefaults(
        num_frames=51, height=240, width=424, fps=24.0, guidance_scale=7.0, num_inference_steps=30
    )

    @classmethod
    def pipeline_type(cls, name: str) -> Any:
        from reelign.generators.opensora.pipeline import OpenSoraPipeline

        return OpenSoraPipeline

    @property
    def denoisers(self) -> dict[str, nn.Module]:
        return {"transformer": self.pipeline.transformer}

    @property
    def patch(self) -> tuple[int, int, int]:
        frames, height, width = self.pipeline.transformer.config.patch_size
        return frames, height, width

    def tokens(self, shape: Sequence[int]) -> int:
        # Sides that patches do not divide are filled up.
        return math.prod(-(-size // patch) for size, patch in zip(shape[1:], self.patch, strict=True))

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Conditioning:
        pipeline, embedder = self.pipeline, self.pipeline.transformer.y_embedder
        encoder, length = pipeline.text_encoder, len(embedder.y_embedding)
        texts = [cleaned(with_score(prompt)) for prompt in prompts]
        tokens = pipeline.tokenizer(
            texts, max_length=length, padding="max_length", truncation=True, return_tensors="pt"
        )
        mask = tokens.attention_mask.to(encoder.device)
        embeds = encoder(tokens.input_ids.to(encoder.device), attention_mask=mask)[0]
        unconditional = torch.tensor([not prompt for prompt in prompts], device=embeds.device)
        nothing = embedder.y_embedding.to(embeds)
        return Conditioning(
            {
                "prompt_embeds": torch.where(unconditional[:, None, None], nothing, embeds),
                # By itself, no text is all of its tokens.
                "prompt_attention_mask": mask.bool() | unconditional[:, None],
                "unconditional": unconditional,
            }
        )

    @property
    def needs_images(self) -> bool:
        return False

    def encode_condition(self, images: Tensor, size: VideoSize) -> Conditioning:
        """A first frame's latents, those of a picture; what of an image stands out of the clips' shape is cut off."""
        return first_frame(self, images, size, resize_mode="crop")

    def clean_mask(self, shape: Sequence[int], conditioning: Conditioning) -> Tensor | None:
        given = conditioning.tensors.get(FIRST)
        return None if given is None else first_frame_mask(shape, given.device)

    def latent_shape(self, size: VideoSize) -> tuple[int, int, int, int]:
        vae = self.pipeline.vae
        stride = vae.spatial_stride
        frames = vae.num_latents(size.num_frames)
        return vae.config.latent_channels, frames, size.height // stride, size.width // stride

    def legal(self, size: VideoSize) -> VideoSize:
        """A picture or whole chunks; on other numbers of frames the released schedule has no shift to go by."""
        vae = self.pipeline.vae
        chunk, stride = vae.config.micro_frame_size, vae.spatial_stride
        return VideoSize(
            num_frames=1 if size.num_frames <= chunk // 2 else max(1, round(size.num_frames / chunk)) * chunk,
            height=max(1, round(size.height / stride)) * stride,
            width=max(1, round(size.width / stride)) * stride,
        )

    def shift(self, shape: Sequence[int]) -> float:
        """√(pixels / 512²) · √(latent frames of whole chunks), of latents (C, F, H, W); a picture has one frame."""
        _, frames, height, width = shape
        vae = self.pipeline.vae
        chunks = frames // vae.chunk_latents * vae.chunk_latents
        pixels = height * width * vae.spatial_stride**2
        return math.sqrt(pixels / SHIFT_SIDE**2 * max(1, chunks))

    def sigmas(self, steps: int, shape: Sequence[int]) -> Tensor:
        even = 1 - torch.arange(steps + 1, dtype=torch.float64) / steps
        shift = self.shift(shape)
        return (shift * even / (1 + (shift - 1) * even)).float()

    def velocity(self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        transformer, stride = self.pipeline.transformer, self.pipeline.vae.spatial_stride
        batch, channels, frames, height, width = noisy_latents.shape
        mask = self.clean_mask(noisy_latents.shape, conditioning)
        fps = self.told["fps"] if frames > 1 else PICTURE_FPS
        predicted: Tensor = transformer(
            noisy_latents if mask is None else hold(noisy_latents, conditioning[FIRST], mask),
            sigma * TIMESTEPS,
            conditioning["prompt_embeds"],
            conditioning["prompt_attention_mask"],
            torch.full((batch,), fps, device=noisy_latents.device),
            height * stride,
            width * stride,
            None if mask is None else ~mask[:, 0, :, 0, 0],
        )[0]
        # Channels behind the latents' own are a variance that no sampler of rectified flow uses.
        velocity = -predicted[:, :channels].float()
        return velocity if mask is None else point_at(velocity, noisy_latents, conditioning[FIRST], mask, sigma)

    def guided_velocity(
        self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning, guidance: Guidance
    ) -> Tensor:
        """Two passes; the features of no text are cut to the prompt's own length, as the released sampler does."""
        if guidance.active and guidance.negative is not None:
            mask, own = conditioning["prompt_attention_mask"], guidance.negative["prompt_attention_mask"]
            cut = torch.where(guidance.negative["unconditional"][:, None], mask, own)
            negative = guidance.negative.joined(Conditioning({"prompt_attention_mask": cut}))
            guidance = Guidance(guidance.scale, negative)
        return super().guided_velocity(noisy_latents, sigma, conditioning, guidance)

    def encode(self, videos: Tensor) -> Tensor:
        vae = self.pipeline.vae
        pixels = videos.transpose(1, 2).to(vae.device, vae.dtype) * 2 - 1
        latents = vae.encode(pixels).latent_dist.mode()
        normalised: Tensor = ((latents - vae.shift) / vae.scale).float()
        return normalised

    def unnormalised(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        raw: Tensor = latents.to(vae.device, vae.dtype) * vae.scale + vae.shift
        return raw
