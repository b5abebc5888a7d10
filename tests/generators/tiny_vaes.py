"""The real VAE classes of the kinds of video models, tiny and with random weights in float64."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLLTXVideo,
    AutoencoderKLMochi,
    AutoencoderKLTemporalDecoder,
    AutoencoderKLWan,
)
from torch import Tensor

from generators.tiny_opensora import SPATIAL, TEMPORAL
from reelign.generators.opensora.vae import OpenSoraVAE

CHANNELS = 4


def _wan() -> AutoencoderKLWan:
    return AutoencoderKLWan(
        base_dim=8, z_dim=CHANNELS, dim_mult=[1, 1, 2], num_res_blocks=1, temperal_downsample=[True, True]
    )


def _wan_residual() -> Any:
    """Wan 2.2 5B's layout: shortcuts that repeat values in time, pixels in patches."""
    vae: Any = AutoencoderKLWan(
        base_dim=8,
        decoder_base_dim=8,
        z_dim=CHANNELS,
        dim_mult=[1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=8,
    )
    # Shortcuts add up; outside [-1, 1] diffusers' own decode would clamp.
    vae.decoder.conv_out.weight.data.mul_(0.1)
    return vae


def _cogvideox() -> AutoencoderKLCogVideoX:
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(4, 4, 4, 8),
        latent_channels=CHANNELS,
        layers_per_block=1,
        norm_num_groups=2,
    )


def _mochi() -> AutoencoderKLMochi:
    """The norms ask for 32 channels, so its frames stay small: 2 x 2 pixels for a latent, not 8 x 8."""
    return AutoencoderKLMochi(
        encoder_block_out_channels=(32,) * 4,
        decoder_block_out_channels=(32,) * 4,
        layers_per_block=(1,) * 5,
        latent_channels=CHANNELS,
        spatial_expansions=(1, 1, 2),
    )


def _frames() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=CHANNELS,
        norm_num_groups=2,
    )


def _temporal() -> AutoencoderKLTemporalDecoder:
    return AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=CHANNELS
    )


def _hunyuan() -> AutoencoderKLHunyuanVideo:
    return AutoencoderKLHunyuanVideo(
        latent_channels=CHANNELS, block_out_channels=(4, 4, 4, 8), layers_per_block=1, norm_num_groups=2
    )


def _hunyuan15() -> AutoencoderKLHunyuanVideo15:
    """Two levels of the published five double frames, so three are enough; 4 x 4 pixels for a latent, not 16 x 16."""
    return AutoencoderKLHunyuanVideo15(
        latent_channels=CHANNELS,
        block_out_channels=(4, 8, 8),
        layers_per_block=1,
        spatial_compression_ratio=4,
        temporal_compression_ratio=4,
    )


def _ltx() -> AutoencoderKLLTXVideo:
    return AutoencoderKLLTXVideo(
        latent_channels=CHANNELS,
        block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
    )


def _opensora() -> OpenSoraVAE:
    """Ours, of the published layout; chunks of five frames are two latent frames, not of 17 five."""
    return OpenSoraVAE(**SPATIAL, **TEMPORAL, micro_frame_size=5)


VAES: dict[str, Callable[[], Any]] = {
    "wan": _wan,
    "wan-residual": _wan_residual,
    "cogvideox": _cogvideox,
    "mochi": _mochi,
    "frames": _frames,
    "temporal": _temporal,
    "hunyuan": _hunyuan,
    "hunyuan15": _hunyuan15,
    "ltx": _ltx,
    "opensora": _opensora,
}
PIECES = {"temporal": {"frames_per_piece": 2}}
"""What `decoder_of` takes beside some of them; Stable Video Diffusion's pipeline calls it `decode_chunk_size`."""


def new_vae(name: str, dtype: torch.dtype = torch.float64) -> Any:
    """A VAE of its own, for a test that changes it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VAES[name]().to(dtype).eval().requires_grad_(False)


@functools.cache
def tiny_vae(name: str) -> Any:
    """One of the VAEs in float64, shared by all tests."""
    return new_vae(name)


def random_latents(frames: int, seed: int = 0) -> Tensor:
    """(1, CHANNELS, frames, 2, 3) in float64; height and width differ, so that no axis is taken for another."""
    return torch.randn(1, CHANNELS, frames, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plainly(vae: Any, latents: Tensor) -> Tensor:
    """Pixels (B, 3, F, H, W) as the VAE's pipeline decodes them."""
    if type(vae) is AutoencoderKL:
        return torch.stack([vae.decode(latents[:, :, frame]).sample for frame in range(latents.shape[2])], dim=2)
    if type(vae) is AutoencoderKLTemporalDecoder:
        groups = [group.squeeze(0).transpose(0, 1) for group in latents.split(2, dim=2)]
        return torch.cat([vae.decode(group, len(group)).sample for group in groups]).transpose(0, 1)[None]
    pixels: Tensor = vae.decode(latents).sample
    return pixels
