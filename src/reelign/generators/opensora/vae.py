"""The VAE of Open-Sora 1.2: a VAE of single pictures, and over it one in time, on chunks of 17 frames.

Chunks do not see each other: 17 frames are 5 latent frames, 51 are 15. The spatial VAE is Stable Diffusion XL's, but it
is scaled by Stable Diffusion 1's 0.18215. Keys as in hpcai-tech/OpenSora-VAE-v1.2 (`spatial_vae.module`,
`temporal_vae`, and the buffers `scale` and `shift` by which latents are normalised).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor, nn

from reelign.generators.opensora.temporal import TemporalVAE

SPATIAL_SCALE = 0.18215


class SpatialVAE(nn.Module):
    """An `AutoencoderKL` over the frames of videos (B, C, F, H, W), one by one."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.module = AutoencoderKL(**config)

    def encode(self, pixels: Tensor) -> Tensor:
        """The most likely latents, scaled."""
        frames = self.module.encode(pixels.transpose(1, 2).flatten(0, 1)).latent_dist.mode()
        latents: Tensor = frames.unflatten(0, (len(pixels), -1)).transpose(1, 2)
        return latents * SPATIAL_SCALE

    def decode(self, latents: Tensor) -> Tensor:
        frames = latents.transpose(1, 2).flatten(0, 1) / SPATIAL_SCALE
        pixels = self.module.decode(frames, return_dict=False)[0]
        videos: Tensor = pixels.unflatten(0, (len(latents), -1)).transpose(1, 2)
        return videos


class OpenSoraVAE(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Defaults are those of the released weights.

    Args:
        block_out_channels, layers_per_block, norm_num_groups: of the spatial `AutoencoderKL`.
        filters, channel_multipliers, num_res_blocks, temporal_downsample, num_groups: of the temporal VAE.
        micro_frame_size: frames of a chunk.
        latents_shift, latents_scale: of each channel; normalised latents are (latents - shift) / scale.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        latent_channels: int = 4,
        block_out_channels: tuple[int, ...] = (128, 256, 512, 512),
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        filters: int = 128,
        channel_multipliers: tuple[int, ...] = (1, 2, 2, 4),
        num_res_blocks: int = 4,
        temporal_downsample: tuple[bool, ...] = (False, True, True),
        num_groups: int = 32,
        micro_frame_size: int = 17,
        latents_shift: tuple[float, ...] = (-0.10, 0.34, 0.27, 0.98),
        latents_scale: tuple[float, ...] = (3.85, 2.32, 2.33, 3.06),
    ) -> None:
        super().__init__()
        levels = len(block_out_channels)
        self.spatial_vae = SpatialVAE(
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            latent_channels=latent_channels,
        )
        self.temporal_vae = TemporalVAE(
            latent_channels,
            [filters * multiplier for multiplier in channel_multipliers],
            num_res_blocks,
            tuple(temporal_downsample),
            num_groups,
        )
        self.register_buffer("shift", torch.tensor(latents_shift).view(1, -1, 1, 1, 1))
        self.register_buffer("scale", torch.tensor(latents_scale).view(1, -1, 1, 1, 1))

    @property
    def spatial_stride(self) -> int:
        """Pixels of a latent along a side."""
        return int(2 ** (len(self.config.block_out_channels) - 1))

    @property
    def temporal_stride(self) -> int:
        """Frames of a latent frame."""
        return int(self.temporal_vae.stride)

    @property
    def chunk_latents(self) -> int:
        """Latent frames of a whole chunk: 5."""
        return self.num_latents(self.config.micro_frame_size)

    def num_latents(self, num_frames: int) -> int:
        """Latent frames of a clip."""
        size, stride = int(self.config.micro_frame_size), self.temporal_stride
        whole, rest = divmod(num_frames, size)
        return whole * -(-size // stride) + -(-rest // stride)

    def num_frames(self, num_latents: int) -> int:
        """Frames of a chunk of 1 to 5 latent frames."""
        whole = min(num_latents * self.temporal_stride, int(self.config.micro_frame_size))
        return 1 if num_latents == 1 else whole

    @property
    def decoder(self) -> nn.ModuleList:
        """Both halves' decoders, to be told to keep fewer activations."""
        return nn.ModuleList([self.temporal_vae.decoder, self.spatial_vae.module.decoder])

    def encode(self, pixels: Tensor) -> Any:
        """Videos (B, 3, F, H, W) in [-1, 1] -> `latent_dist` over (B, C, f, H', W'), not normalised."""
        chunks = self.spatial_vae.encode(pixels).split(int(self.config.micro_frame_size), dim=2)
        moments = torch.cat([self.temporal_vae.moments(chunk) for chunk in chunks], dim=2)
        return AutoencoderKLOutput(latent_dist=DiagonalGaussianDistribution(moments))

    def decode(self, latents: Tensor, return_dict: bool = True) -> Any:
        """Latents (B, C, f, H', W'), not normalised -> videos (B, 3, F, H, W), about [-1, 1], as `sample`.

        Behind whole chunks of 5, one latent frame is one frame, as a picture's is, and 2 to 4 are 4 frames each.
        """
        features = [self._unfilled(chunk) for chunk in latents.split(self.chunk_latents, dim=2)]
        videos = self.spatial_vae.decode(torch.cat(features, dim=2))
        return DecoderOutput(sample=videos) if return_dict else (videos,)

    def _unfilled(self, chunk: Tensor) -> Tensor:
        """What a chunk becomes, without the frames that filled it up before it was encoded."""
        frames: Tensor = self.temporal_vae.decode(chunk)
        return frames[:, :, -self.num_frames(chunk.shape[2]) :]
