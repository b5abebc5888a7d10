"""Clips to compare: of one colour, so that what was seen of them shows in numbers."""

from __future__ import annotations

import torch

from reelign.video import Clip


def flat(level: float, frames: int = 4, height: int = 24, width: int = 32, fps: float = 8.0) -> Clip:
    """Grey of one level in [0, 1], a little darker in each next frame."""
    shades = level - 0.01 * torch.arange(frames, dtype=torch.float32)
    return Clip(frames=shades.view(-1, 1, 1, 1).expand(-1, 3, height, width).clone(), fps=fps)
