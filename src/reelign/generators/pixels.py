"""Videos as VAEs take them and give them back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def encoded(vae: Any, videos: Tensor) -> Tensor:
    """The mode of a video VAE's posterior, fp32 (B, C, F', H', W') as the VAE scales it, of videos (B, F, 3, H, W) in
    [0, 1]; the pipelines draw from the posterior, and here a video has the same latents at every visit."""
    pixels = videos.transpose(1, 2).to(vae.device, vae.dtype) * 2 - 1
    latents: Tensor = vae.encode(pixels).latent_dist.mode().float()
    return latents


def to_video(pixels: Tensor) -> Tensor:
    """A VAE's pixels (B, 3, F, H, W), about [-1, 1], as a video (B, F, 3, H, W), about [0, 1], in at least fp32."""
    wide = pixels if pixels.dtype == torch.float64 else pixels.float()
    return ((wide + 1) / 2).transpose(1, 2)
