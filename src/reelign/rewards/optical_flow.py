"""Dense optical flow without weights: Lucas–Kanade over a pyramid, in plain torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reelign.errors import ReelignError

SMALLEST = 16
"""Shortest side of the coarsest level, px."""
NOISE = 1e-5
"""Added to both eigenvalues of the structure tensor (luma² / px²): where nothing has texture, nothing moves."""


def lucas_kanade(first: Tensor, second: Tensor, *, levels: int = 4, radius: int = 5, iterations: int = 4) -> Tensor:
    """Displacement of every pixel of `first` to its place in `second`.

    The step of Lucas & Kanade 1981 for a window, iterated on the warped image and started from the flow of the next
    coarser level (Bouguet 2000); a median over 5 x 5 pixels takes outliers out of each level's flow (Sun et al. 2010).
    The window is a box; pixels that come from outside the frame do not count.

    Args:
        first, second: (N, 1, H, W), float in [0, 1].
        levels: of the pyramid, at most; each halves the size down to `SMALLEST`.
        radius: of the window, px.
        iterations: at each level.
    Returns:
        (N, 2, H, W) px, to the right and down; gradients reach both images. On smooth random texture of 128 x 224 it is
            off by 0.04 px for shifts up to a tenth of the shorter side; further ones within a frame are lost.
    Raises:
        ReelignError: images of other shapes.
    """
    if first.shape != second.shape or first.ndim != 4 or first.shape[1] != 1:
        raise ReelignError(
            f"Optical flow needs two images (N, 1, H, W), got {tuple(first.shape)} and {tuple(second.shape)}.",
            "Give grey images of one size.",
        )
    pyramid = [(first, second)]
    while len(pyramid) < levels and min(pyramid[-1][0].shape[-2:]) >= 2 * SMALLEST:
        pyramid.append((_halved(pyramid[-1][0]), _halved(pyramid[-1][1])))
    coarsest = pyramid[-1][0]
    flow = coarsest.new_zeros(len(coarsest), 2, *coarsest.shape[-2:])
    for here, there in reversed(pyramid):
        flow = _refined(here, there, _enlarged(flow, here), radius, iterations)
    return flow


def _refined(first: Tensor, second: Tensor, flow: Tensor, radius: int, iterations: int) -> Tensor:
    right, down = _slopes(first)
    for _ in range(iterations):
        warped, inside = _warped(second, flow)
        change = (warped - first) * inside
        sums = [right * right * inside, right * down * inside, down * down * inside, right * change, down * change]
        xx, xy, yy, xt, yt = _window(torch.cat(sums, dim=1), radius).unbind(dim=1)
        xx, yy = xx + NOISE, yy + NOISE
        determinant = xx * yy - xy * xy
        step = torch.stack([xy * yt - yy * xt, xy * xt - xx * yt], dim=1) / determinant[:, None]
        # Further than the window sees, the linear model says nothing.
        flow = flow + step.clamp(-radius, radius)
    return _median(flow)


def _slopes(image: Tensor) -> tuple[Tensor, Tensor]:
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    right = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return right, down


def _warped(image: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """The image as seen at each pixel's place plus its flow, and where that is inside the frame."""
    height, width = image.shape[-2:]
    rows, columns = torch.meshgrid(
        torch.arange(height, device=image.device), torch.arange(width, device=image.device), indexing="ij"
    )
    x, y = columns + flow[:, 0], rows + flow[:, 1]
    grid = torch.stack([x / max(1, width - 1), y / max(1, height - 1)], dim=-1) * 2 - 1
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    warped = F.grid_sample(image, grid, mode="bicubic", padding_mode="border", align_corners=True)
    return warped, inside[:, None].to(image.dtype)


def _window(images: Tensor, radius: int) -> Tensor:
    """Mean over the window around each pixel; beyond the frame there is nothing."""
    size = 2 * radius + 1
    columns = F.avg_pool2d(images, (size, 1), stride=1, padding=(radius, 0), count_include_pad=False)
    return F.avg_pool2d(columns, (1, size), stride=1, padding=(0, radius), count_include_pad=False)


def _median(flow: Tensor) -> Tensor:
    """Of each pixel's 5 x 5 neighbours; without it an outlier of one level is doubled at the next."""
    padded = F.pad(flow, (2, 2, 2, 2), mode="replicate")
    return padded.unfold(2, 5, 1).unfold(3, 5, 1).flatten(-2).median(dim=-1).values


def _halved(image: Tensor) -> Tensor:
    """Half the size, after the binomial filter of Burt & Adelson 1983."""
    taps = image.new_tensor([1, 4, 6, 4, 1]) / 16
    padded = F.pad(image, (2, 2, 2, 2), mode="replicate")
    smooth = F.conv2d(F.conv2d(padded, taps.view(1, 1, 1, 5)), taps.view(1, 1, 5, 1))
    size = [(side + 1) // 2 for side in image.shape[-2:]]
    return F.interpolate(smooth, size=size, mode="bilinear", align_corners=True)


def _enlarged(flow: Tensor, like: Tensor) -> Tensor:
    """The flow of a coarser level in the pixels of a finer one."""
    if flow.shape[-2:] == like.shape[-2:]:
        return flow
    (height, width), (low_height, low_width) = like.shape[-2:], flow.shape[-2:]
    scale = flow.new_tensor([(width - 1) / (low_width - 1), (height - 1) / (low_height - 1)])
    return F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=True) * scale.view(1, 2, 1, 1)
