"""CogVideoX image-to-video (`CogVideoXImageToVideoPipeline`), 5B and 1.5 5B: its clips go on from a first frame.

Facts that matter here (diffusers 0.42.1): the transformer takes the latents of the image beside the noisy ones, as more
channels of the first latent frame, zeros in the others; all frames are made, none is given clean. The pipeline draws
those latents from what the VAE's encoder says, here they are its mean, so that a condition is the same at every visit.
Their scale is that of the clips in 5B and its inverse in 1.5 (`invert_scale_latents`), as that was trained. 5B I2V has
learned places, for its own size alone; 1.5 embeds a constant offset of 2 beside the timestep.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from reelign.generators.base import Conditioning, VideoSize
from reelign.generators.cogvideox import CogVideoX
from reelign.generators.pictures import as_pictures

OFFSET = 2.0
IMAGE = "image_latents"
"""Of the image in the conditioning, (B, C, 1, H, W), scaled."""


class CogVideoXImageToVideo(CogVideoX):
    """CogVideoX I2V, 5B and 1.5 5B, through its diffusers pipeline."""

    pipeline_classes: ClassVar[tuple[str, ...]] = ("CogVideoXImageToVideoPipeline",)

    @torch.no_grad()
    def encode_condition(self, images: Tensor, size: VideoSize) -> Conditioning:
        vae, pictures = self.pipeline.vae, as_pictures(images)
        pixels = self.pipeline.video_processor.preprocess(pictures, height=size.height, width=size.width)
        raw: Tensor = vae.encode(pixels[:, :, None].to(vae.device, vae.dtype)).latent_dist.mode().float()
        scale = float(vae.config.scaling_factor)
        return Conditioning({IMAGE: 1 / scale * raw if vae.config.invert_scale_latents else scale * raw})

    def legal(self, size: VideoSize) -> VideoSize:
        config: Any = self.pipeline.transformer.config
        if not config.use_learned_positional_embeddings:
            return super().legal(size)
        stride = self.pipeline.vae_scale_factor_spatial
        return VideoSize(config.sample_frames, config.sample_height * stride, config.sample_width * stride)

    def fed(self, noisy_latents: Tensor, conditioning: Conditioning) -> Tensor:
        image = torch.zeros_like(noisy_latents)
        image[:, :, :1] = conditioning[IMAGE].to(noisy_latents)
        return torch.cat([noisy_latents, image], dim=1)

    def offset(self, noisy_latents: Tensor) -> Tensor | None:
        if self.pipeline.transformer.config.ofs_embed_dim is None:
            return None
        return noisy_latents.new_full((1,), OFFSET)
