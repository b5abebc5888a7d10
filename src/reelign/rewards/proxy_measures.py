"""What pixels alone say: movement, flicker, sharpness, colour and exposure, likeness of consecutive frames."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from reelign.rewards.optical_flow import lucas_kanade

LUMA = (0.2126, 0.7152, 0.0722)
"""Of BT.709, on values as stored."""
FASTEST = 0.05
"""Share of a frame's pixels that its movement is read from, as in VBench's dynamic degree (arXiv:2311.17982)."""
PAIRS_AT_ONCE = 16


def luma(videos: Tensor) -> Tensor:
    """(..., 3, H, W) in [0, 1] to (..., H, W) in [0, 1]."""
    return (videos * videos.new_tensor(LUMA).view(3, 1, 1)).sum(dim=-3)


def dynamic_degree(videos: Tensor, *, side: int = 128) -> Tensor:
    """How far the fastest parts of a video move between two frames.

    VBench (arXiv:2311.17982) with Lucas–Kanade's flow for RAFT's, without its threshold: the mean over the fastest 5 %
    of the pixels, averaged over pairs of consecutive frames. A share of the frame, so that size does not matter; a
    video of half the frame rate moves twice as far.

    Args:
        videos: (B, F >= 2, 3, H, W) in [0, 1].
        side: the shorter side that larger frames are reduced to, px.
    Returns:
        (B,) in shorter sides per frame; 0 is still, higher moves more.
    """
    grey = luma(videos)
    batch, frames, height, width = grey.shape
    grey = grey.flatten(0, 1)[:, None]
    if min(height, width) > side:
        scale = side / min(height, width)
        size = (round(height * scale), round(width * scale))
        grey = F.interpolate(grey, size=size, mode="bilinear", antialias=True)
    shorter = min(grey.shape[-2:])
    grey = grey.unflatten(0, (batch, frames))
    first, second = grey[:, :-1].flatten(0, 1), grey[:, 1:].flatten(0, 1)
    speeds = [
        _fastest(lucas_kanade(here, there))
        for here, there in zip(first.split(PAIRS_AT_ONCE), second.split(PAIRS_AT_ONCE), strict=True)
    ]
    return torch.cat(speeds).view(batch, frames - 1).mean(dim=1) / shorter


def _fastest(flow: Tensor) -> Tensor:
    """(N, 2, H, W) px to (N,): the mean over the fastest pixels."""
    speed: Tensor = torch.linalg.vector_norm(flow, dim=1).flatten(1)
    return speed.topk(max(1, round(FASTEST * speed.shape[1])), dim=1).values.mean(dim=1)


def frame_consistency(videos: Tensor) -> Tensor:
    """1 less the mean absolute difference of consecutive frames: VBench's temporal flickering (arXiv:2311.17982).

    Args:
        videos: (B, F >= 2, 3, H, W) in [0, 1].
    Returns:
        (B,) in [0, 1]; 1 is a still video, and movement lowers it as flicker does.
    """
    return 1 - (videos[:, 1:] - videos[:, :-1]).abs().flatten(1).mean(dim=1)


def steadiness(videos: Tensor, *, blocks: int = 4) -> Tensor:
    """How little brightness goes up and down from frame to frame.

    The second difference in time of the luma of each of blocks x blocks parts of the frame: a fade has none, and
    movement within a part has little. Root mean square over parts and frames; luma of 0.5 ± a in turn has a.

    Args:
        videos: (B, F >= 3, 3, H, W) in [0, 1].
        blocks: parts along each side.
    Returns:
        (B,) in [-1, 0]; 0 is without flicker.
    """
    light = F.adaptive_avg_pool2d(luma(videos), blocks)
    bend = (light[:, 2:] - 2 * light[:, 1:-1] + light[:, :-2]) / 4
    return -_root_mean_square(bend.flatten(1))


def sharpness(videos: Tensor) -> Tensor:
    """Variance of the Laplacian of luma, averaged over frames (Pech-Pacheco et al. 2000, LAPV).

    Args:
        videos: (B, F, 3, H >= 3, W >= 3) in [0, 1].
    Returns:
        (B,) luma², 0 or above; higher is sharper. Noise raises it as detail does.
    """
    grey = luma(videos)
    around = grey[..., :-2, 1:-1] + grey[..., 2:, 1:-1] + grey[..., 1:-1, :-2] + grey[..., 1:-1, 2:]
    laplacian = around - 4 * grey[..., 1:-1, 1:-1]
    return laplacian.flatten(2).var(dim=2, correction=0).mean(dim=1)


def colour(videos: Tensor) -> dict[str, Tensor]:
    """Statistics of colour and exposure, averaged over frames.

    Args:
        videos: (B, F, 3, H, W) in [0, 1].
    Returns:
        (B,) each, higher is more of it: `colourfulness` (Hasler & Süsstrunk 2003, eq. 1 with values in [0, 1]; grey is
        0), `contrast` (standard deviation of luma, 0 to 0.5), `exposure` (1 - |2 · mean luma - 1|: 1 is mid-grey on
        average, 0 all black or all white).
    """
    red, green, blue = (videos[:, :, channel].flatten(2) for channel in range(3))
    opponents = torch.stack([red - green, (red + green) / 2 - blue])
    spread = torch.linalg.vector_norm(torch.stack([_deviation(each) for each in opponents]), dim=0)
    offset = torch.linalg.vector_norm(opponents.mean(dim=-1), dim=0)
    grey = luma(videos).flatten(2)
    return {
        "colourfulness": (spread + 0.3 * offset).mean(dim=1),
        "contrast": _deviation(grey).mean(dim=1),
        "exposure": (1 - (2 * grey.mean(dim=-1) - 1).abs()).mean(dim=1),
    }


def _deviation(values: Tensor) -> Tensor:
    """Standard deviation over the last dimension."""
    return _root_mean_square(values - values.mean(dim=-1, keepdim=True))


def _root_mean_square(values: Tensor) -> Tensor:
    """Over the last dimension. As a norm: at 0 its gradient is 0, where a root's is not finite."""
    norm: Tensor = torch.linalg.vector_norm(values, dim=-1)
    return norm / math.sqrt(values.shape[-1])
