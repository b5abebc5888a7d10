"""Moving pictures whose movement is known: a sum of waves is shifted by any distance exactly."""

from __future__ import annotations

import torch
from torch import Tensor


def texture(height: int, width: int, *, right: float = 0.0, down: float = 0.0, waves: int = 24) -> Tensor:
    """(H, W) in [0, 1]: smooth, without seams, moved by so many px."""
    chance = torch.Generator().manual_seed(0)
    frequencies = (torch.rand(waves, 2, generator=chance) * 2 - 1) * 0.12
    phases = torch.rand(waves, generator=chance) * 2 * torch.pi
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    angles = 2 * torch.pi * (frequencies[:, 0, None, None] * (x - right) + frequencies[:, 1, None, None] * (y - down))
    total = torch.cos(angles + phases[:, None, None]).sum(dim=0) / waves**0.5
    return (0.5 + 0.2 * total).clamp(0, 1)


def moving(height: int, width: int, *, right: float, down: float, frames: int) -> Tensor:
    """(F, 3, H, W) grey, moved by so many px from frame to frame."""
    grey = [texture(height, width, right=right * number, down=down * number) for number in range(frames)]
    return torch.stack(grey)[:, None].expand(-1, 3, -1, -1).contiguous()
