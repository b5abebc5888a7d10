"""What U-Nets over a VAE of single frames share: a latent frame for each frame of the video, encoded by itself."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from reelign.generators.base import Generator, VideoSize
from reelign.generators.checkpointing import checkpoint_blocks


class FrameVAE(Generator):
    """A U-Net under the pipeline's name `unet` over such a VAE, which knows one scale for all channels."""

    checkpointed: ClassVar[tuple[str, ...]]
    """Class names of the U-Net's blocks whose activations are worth running again."""

    @property
    def denoisers(self) -> dict[str, nn.Module]:
        return {"unet": self.pipeline.unet}

    def latent_shape(self, size: VideoSize) -> tuple[int, int, int, int]:
        stride = self.pipeline.vae_scale_factor
        channels = self.pipeline.vae.config.latent_channels
        return (channels, size.num_frames, size.height // stride, size.width // stride)

    @property
    def halved(self) -> int:
        """Pixels to a place of the U-Net's lowest level, each of which halves the one above."""
        levels = len(self.pipeline.unet.config.block_out_channels)
        return int(2 ** (levels - 1) * self.pipeline.vae_scale_factor)

    def encode(self, videos: Tensor) -> Tensor:
        vae = self.pipeline.vae
        pixels = videos.flatten(0, 1).to(vae.device, vae.dtype) * 2 - 1
        frames = vae.encode(pixels).latent_dist.mode().float() * float(vae.config.scaling_factor)
        latents: Tensor = frames.unflatten(0, videos.shape[:2]).transpose(1, 2)
        return latents

    def unnormalised(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        # Multiplied by the reciprocal, as the pipelines round it.
        return (1 / float(vae.config.scaling_factor) * latents).to(vae.device, vae.dtype)

    def enable_activation_checkpointing(self, *, keep_attention: bool = False) -> None:
        checkpoint_blocks(self.pipeline.unet, self.checkpointed, keep_attention=keep_attention)
