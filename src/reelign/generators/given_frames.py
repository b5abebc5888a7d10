"""Frames that a clip goes on from, held among the latents: put in for the denoiser, pointed at by the velocity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reelign.diffusion.flow import per_sample
from reelign.generators.base import Conditioning, Generator, VideoSize
from reelign.generators.pictures import as_pictures

FIRST = "first_latents"
"""The latents of a given first frame in the conditioning, (B, C, 1, H, W)."""
SMALLEST_SIGMA = 1e-6
"""Below it what is given has no noise left to point away from."""


@torch.no_grad()
def first_frame(generator: Generator, images: Tensor, size: VideoSize, **resizing: str) -> Conditioning:
    """The latents of images (B, 3, H, W) in [0, 1] as those of clips of one frame.

    Args:
        resizing: of the pipeline's processor, which brings the images to the clips' size.
    """
    processor = generator.pipeline.video_processor
    first = processor.preprocess(as_pictures(images), height=size.height, width=size.width, **resizing)
    return Conditioning({FIRST: generator.encode((first[:, None].float() + 1) / 2)})


def last_frame(generator: Generator, frames: Tensor) -> Conditioning:
    """The latents of frames (B, 3, H, W) in [0, 1] that clips of this size ended with, with their gradient."""
    return Conditioning({FIRST: generator.encode(frames[:, None])})


def first_frame_mask(shape: Sequence[int], device: torch.device | str) -> Tensor:
    """(B, 1, F, H, W) bool for latents of `shape` (B, C, F, H, W), true at the first latent frame."""
    mask = torch.zeros((shape[0], 1, *shape[2:]), dtype=torch.bool, device=device)
    mask[:, :, 0] = True
    return mask


def hold(noisy_latents: Tensor, given: Tensor, mask: Tensor) -> Tensor:
    """Noisy latents (B, C, F, H, W) with those that are given, broadcastable to them, where the mask is true."""
    return torch.where(mask, given.to(noisy_latents), noisy_latents)


def point_at(velocity: Tensor, noisy_latents: Tensor, given: Tensor, mask: Tensor, sigma: Tensor) -> Tensor:
    """The velocity that leads straight to what is given where the mask is true: (noisy - given) / sigma, sigma (B,)."""
    level = per_sample(sigma.clamp(min=SMALLEST_SIGMA), noisy_latents)
    return torch.where(mask, (noisy_latents - given.to(noisy_latents)) / level, velocity)
