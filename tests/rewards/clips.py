"""Clips to score, the same in memory and as a real mp4."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from reelign.video import read_video, write_video


def clip(num_frames: int = 6, height: int = 40, width: int = 56, seed: int = 0) -> Tensor:
    """Smooth noise that drifts to the right, (F, 3, H, W) on 256 levels of [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 7, 12, generator=generator)
    wide = torch.nn.functional.interpolate(coarse, size=(height, 2 * width), mode="bilinear")[0]
    frames = torch.stack([wide[:, :, 2 * index : 2 * index + width] for index in range(num_frames)])
    return (frames * 255).round() / 255


def mp4(folder: Path, **settings: int) -> Tensor:
    """The frames of a clip that went through an H.264 file."""
    write_video(folder / "clip.mp4", clip(**settings), 8.0)
    return read_video(folder / "clip.mp4").frames
