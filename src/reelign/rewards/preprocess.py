"""What image models see of a frame: resized, cropped or padded, normalised. Plain torch; gradients reach the frames.

Frames are first put on the 256 levels that a lossless file would hold. That rounding, and those of the resize, are
straight-through: the value is the rounded one and the gradient that of the unrounded, so that a video is scored alike
with and without a gradient, in memory and from its file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from reelign.errors import ReelignError

RGB = tuple[float, float, float]
CLIP_MEAN: RGB = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: RGB = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN: RGB = (0.485, 0.456, 0.406)
IMAGENET_STD: RGB = (0.229, 0.224, 0.225)
HALF: RGB = (0.5, 0.5, 0.5)

Fit = Literal["crop", "pad", "stretch"]
Filter = Literal["bicubic", "bilinear"]
Resizer = Literal["pillow", "torchvision", "float", "float_aliased"]

PILLOW_BITS = 22
"""Pillow holds the weights of its filters as whole multiples of 2^-22 (Resample.c, PRECISION_BITS)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """How one model takes frames; two rewards with equal ones and the same tower share its embeddings."""

    size: int = 224
    """Side of the square that comes out, in pixels."""
    fit: Fit = "crop"
    """`crop`: shortest side to `shortest`, then the centre; `pad`: longest side to `size`, black around it, half on
    each side; `stretch`: straight to a square, whatever the aspect."""
    shortest: int | None = None
    """Shortest side before the crop; None is `size`."""
    filter: Filter = "bicubic"
    resizer: Resizer = "pillow"
    """Whose resize is followed, see `resize`."""
    crop: Literal["floor", "round"] = "floor"
    """Where the crop starts if what is left over is odd: transformers cuts, torchvision rounds half to even."""
    mean: RGB = CLIP_MEAN
    std: RGB = CLIP_STD

    def __call__(self, frames: Tensor) -> Tensor:
        """From (F, 3, H, W) in [0, 1] to (F, 3, size, size), normalised, float32."""
        values = levels(frames)
        height, width = values.shape[-2:]
        if self.fit == "stretch":
            values = resize(values, self.size, self.size, filter=self.filter, resizer=self.resizer)
        elif self.fit == "pad":
            tall, wide = longest_side(height, width, self.size)
            values = resize(values, tall, wide, filter=self.filter, resizer=self.resizer)
            values = pad_to_square(values, self.size)
        else:
            tall, wide = shortest_side(height, width, self.shortest or self.size)
            values = resize(values, tall, wide, filter=self.filter, resizer=self.resizer)
            values = centre_crop(values, self.size, rounding=self.crop)
        return normalise(values, self.mean, self.std)


def levels(frames: Tensor) -> Tensor:
    """Frames in [0, 1] as the whole numbers 0 to 255 that 8 bits hold, float32; values outside are clamped.

    Gradients pass the rounding as if it were not there, and stop where a value was clamped.
    """
    return _whole(frames.float().clamp(0, 1) * 255)


def normalise(values: Tensor, mean: RGB, std: RGB) -> Tensor:
    """(F, 3, H, W) of 0 to 255 to (values / 255 - mean) / std per colour, float32."""
    centre, spread = (torch.tensor(each, device=values.device).view(3, 1, 1) for each in (mean, std))
    return (values.float() / 255 - centre) / spread


def shortest_side(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width with the shorter one at `size`, the longer one cut to whole pixels (as transformers does)."""
    return (size, int(size * width / height)) if height <= width else (int(size * height / width), size)


def longest_side(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width with the longer one at `size`, rounded, at least 1 pixel (as open_clip's ResizeMaxSize)."""
    scale = size / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def centre_crop(values: Tensor, size: int, *, rounding: Literal["floor", "round"] = "floor") -> Tensor:
    """The middle `size` x `size` of (F, 3, H, W); H and W at least `size`."""
    spare = [side - size for side in values.shape[-2:]]
    top, left = (each // 2 if rounding == "floor" else round(each / 2) for each in spare)
    return values[..., top : top + size, left : left + size]


def pad_to_square(values: Tensor, size: int) -> Tensor:
    """Zeros (black) around (F, 3, H, W), half of them before and the rest after, to `size` x `size`."""
    missing = [size - side for side in values.shape[-2:]]
    (top, left), (bottom, right) = ([each // 2 for each in missing], [each - each // 2 for each in missing])
    return F.pad(values, (left, right, top, bottom))


def resize(values: Tensor, height: int, width: int, *, filter: Filter, resizer: Resizer) -> Tensor:
    """Resize frames as one of the libraries does that the public models were trained with.

    `pillow` is Pillow on 8-bit images, bit for bit: rows first, rounded to whole numbers, then columns.
    `torchvision` is torchvision on uint8 tensors: both at once, antialiased, clamped and rounded.
    `float` is torchvision on float tensors: antialiased, neither clamped nor rounded; `float_aliased` the same
    without antialiasing.

    Args:
        values: (F, 3, h, w), 0 to 255.
        height, width: the size wanted, in pixels.
    Returns:
        (F, 3, height, width) float32.
    """
    if values.shape[-2:] == (height, width):
        return values
    if resizer == "pillow":
        return _pillow_resize(values, height, width, filter).float()
    resized = F.interpolate(
        values, size=(height, width), mode=filter, antialias=resizer != "float_aliased", align_corners=False
    )
    return _whole(resized.clamp(0, 255)) if resizer == "torchvision" else resized


def _pillow_resize(values: Tensor, height: int, width: int, filter: Filter) -> Tensor:
    # Double precision holds Pillow's whole-number sums exactly; devices without it (Apple's) round a little otherwise.
    precise = torch.float32 if values.device.type == "mps" else torch.float64
    values = values.to(precise)
    for side, axis in ((width, -1), (height, -2)):
        if values.shape[axis] == side:
            continue
        parts = []
        for first, last, held in pillow_bands(values.shape[axis], side, filter):
            weights, seen = held.to(values.device, precise), values.narrow(axis, first, last - first)
            parts.append(seen @ weights.T if axis == -1 else weights @ seen)
        values = _whole(torch.cat(parts, dim=axis).clamp(0, 255), half_up=True)
    return values


@lru_cache(maxsize=64)
def pillow_bands(old: int, new: int, filter: Filter, blocks: int = 16) -> list[tuple[int, int, Tensor]]:
    """`pillow_weights` without most of its zeros: neighbouring new pixels come from a short stretch of the old.

    Returns:
        First and last + 1 of the old pixels, and (rows, last - first) weights, of each stretch of new pixels.
    """
    bands = []
    for rows in pillow_weights(old, new, filter).split(-(-new // blocks)):
        used = (rows != 0).any(dim=0).nonzero()
        first, last = int(used[0]), int(used[-1]) + 1
        bands.append((first, last, rows[:, first:last].contiguous()))
    return bands


def pillow_weights(old: int, new: int, filter: Filter) -> Tensor:
    """The weights by which Pillow makes `new` pixels of `old` along one axis.

    Pixel i of the new lies at (i + ½)·old/new in the old; a pixel at distance d from there weighs f(d / s) with
    s = max(old/new, 1), which is the antialiasing, over the sum of all, rounded to multiples of 2^-22. f is the
    triangle of half-width 1, or Keys' cubic with a = -½ of half-width 2.

    Returns:
        (new, old) float64; rows add up to 1 within rounding.
    """
    step = old / new
    scale = max(step, 1.0)
    reach = (2.0 if filter == "bicubic" else 1.0) * scale
    weights = torch.zeros(new, old, dtype=torch.float64)
    for row in range(new):
        centre = (row + 0.5) * step
        first, last = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), old)
        distance = (torch.arange(first, last, dtype=torch.float64) - centre + 0.5).abs() / scale
        weight = _cubic(distance) if filter == "bicubic" else (1 - distance).clamp(min=0)
        weight = weight / weight.sum() * (1 << PILLOW_BITS)
        # Half away from zero, as C's cast of x ± ½ rounds.
        weights[row, first:last] = torch.trunc(weight + 0.5 * weight.sign())
    return weights / (1 << PILLOW_BITS)


def _cubic(distance: Tensor, a: float = -0.5) -> Tensor:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))


def _whole(values: Tensor, *, half_up: bool = False) -> Tensor:
    """Rounded, with the gradient of the unrounded."""
    rounded = torch.floor(values + 0.5) if half_up else values.round()
    return values + (rounded - values).detach() if values.requires_grad else rounded


def spaced(num_frames: int, count: int | None) -> list[int]:
    """`count` frames evenly spread from the first to the last (one: the middle); None is all of them.

    Raises:
        ReelignError: more frames asked for than there are, or none.
    """
    if count is None:
        return list(range(num_frames))
    if not 1 <= count <= num_frames:
        raise ReelignError(
            f"{count} frames are looked at where a video has {num_frames}.", "Set frames to fewer, or to null for all."
        )
    if count == 1:
        return [num_frames // 2]
    return [math.floor(index * (num_frames - 1) / (count - 1) + 0.5) for index in range(count)]
