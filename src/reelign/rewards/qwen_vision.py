"""What Qwen-VL backbones see of a video: frames chosen by time, resized to a budget of pixels, cut into patches.

Plain torch, and gradients flow from the patches to the frames. The numbers are those of the tools that the public
rewards were trained with: qwen-vl-utils' sampling and sizes, torchvision's resize of uint8 frames (rounded to whole
numbers, straight-through where a gradient is wanted: see `preprocess`), the patches of transformers' processor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.preprocess import CLIP_MEAN, CLIP_STD, RGB, levels, resize

LONGEST_ASPECT = 200
"""Sides may differ by this factor at most, as in qwen-vl-utils."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSettings:
    """Which frames are looked at and at what size; the defaults are VideoReward's (VideoAlign, vision_process.py)."""

    fps: float = 2.0
    """Frames looked at per second of video."""
    num_frames: int | None = None
    """Look at this many frames, whatever the video's length; None goes by `fps`."""
    min_frames: int = 4
    """Fewest frames looked at, where the video has as many."""
    max_frames: int = 768
    """Most frames looked at."""
    min_pixels: int = 128 * 28 * 28
    """A smaller frame is enlarged to as many pixels (height times width)."""
    max_pixels: int = 256 * 28 * 28
    """A larger frame is reduced to as many pixels."""
    total_pixels: int | None = None
    """Most pixels of all frames, two frames counted as one (a patch spans two); None sets no such bound."""

    def __post_init__(self) -> None:
        if not 0 < self.fps < math.inf:
            raise ReelignError(f"fps of the frames looked at is {self.fps}.", "Give a number above 0.")
        if not 2 <= self.min_frames <= self.max_frames or self.frames_needed < 2:
            raise ReelignError(
                f"Frames looked at: min_frames {self.min_frames}, max_frames {self.max_frames}, "
                f"num_frames {self.num_frames}.",
                "Give 2 frames or more, and min_frames at most max_frames.",
            )
        if not 0 < self.min_pixels <= self.max_pixels:
            raise ReelignError(
                f"min_pixels is {self.min_pixels}, max_pixels {self.max_pixels}.",
                "Give numbers above 0, min_pixels at most max_pixels.",
            )

    @property
    def frames_needed(self) -> int:
        """Fewest frames that a video must have; an odd `num_frames` is rounded to even pairs, as in the reference."""
        return 2 if self.num_frames is None else 2 * round(self.num_frames / 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchLayout:
    """How a backbone's vision tower takes pixels; from its config and its family's processor."""

    patch_size: int = 14
    """Side of a patch in pixels."""
    temporal_patch_size: int = 2
    """Frames that a patch spans."""
    merge_size: int = 2
    """Patches per side that become one token of the language model."""
    mean: RGB = CLIP_MEAN
    """Of each colour, in [0, 1]; CLIP's for Qwen2-VL and Qwen2.5-VL."""
    std: RGB = CLIP_STD

    @property
    def factor(self) -> int:
        """What height and width are multiples of."""
        return self.patch_size * self.merge_size


@dataclass(frozen=True, kw_only=True, slots=True)
class Patches:
    """One video as a vision tower takes it; small enough to keep (a byte per value) and to send between processes."""

    pixels: Tensor
    """(T·H·W, 3·P·p·p) values of 0 to 255 in the order of `patchify`: uint8, or float32 where gradients are wanted."""
    grid: tuple[int, int, int]
    """T, H, W: patches over time, height and width, before merging."""
    times: tuple[float, ...]
    """(T) seconds from the video's start to the middle of the frames that each patch spans."""
    seconds_per_patch: float
    """Seconds from one patch to the next over time."""


def frame_indices(num_frames: int, fps: float, settings: ClipSettings) -> list[int]:
    """The frames that are looked at, evenly spread from the first to the last.

    n = 2·round(clamp(num_frames / fps · settings.fps) / 2), rounded half to even, clamped to min_frames and then to
    the largest even number of frames there are; index i is round(i · (num_frames - 1) / (n - 1)), computed in float32
    as the reference does (qwen-vl-utils smart_nframes; torch.linspace(...).round()).

    Args:
        num_frames: of the video, at least 2.
        fps: frames per second of the video, > 0.
        settings: how many to look at.
    Returns:
        Indices, ascending; a video shorter than `min_frames` gives an even number of what it has.
    Raises:
        ReelignError: fewer than 2 frames, or fewer than `settings.num_frames` asks for.
    """
    if num_frames < settings.frames_needed:
        raise ReelignError(
            f"A video has {num_frames} frames where {settings.frames_needed} are looked at.",
            "Give a longer video, or set num_frames lower.",
        )
    if settings.num_frames is not None:
        count = settings.frames_needed
    else:
        wanted = num_frames / fps * settings.fps
        fewest = 2 * math.ceil(settings.min_frames / 2)
        most = 2 * (min(settings.max_frames, num_frames) // 2)
        count = 2 * round(min(max(wanted, fewest), most) / 2)
    spread: list[int] = torch.linspace(0, num_frames - 1, count).round().long().tolist()
    return spread


def smart_resize(height: int, width: int, *, factor: int, min_pixels: float, max_pixels: float) -> tuple[int, int]:
    """The size nearest to a frame's with sides that are multiples of `factor`, within the budget (qwen-vl-utils).

    Args:
        height, width: of the frame, in pixels.
        factor: patch size times merge size.
        min_pixels, max_pixels: bounds on height times width.
    Returns:
        Height and width.
    Raises:
        ReelignError: sides that differ by more than 200 times.
    """
    if max(height, width) > LONGEST_ASPECT * min(height, width):
        raise ReelignError(
            f"A frame is {width} by {height} pixels: one side is over {LONGEST_ASPECT} times the other.",
            "Crop the video.",
        )
    tall, wide = (max(factor, round(side / factor) * factor) for side in (height, width))
    if tall * wide > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        # The reference lets a very long frame's short side go to 0; a patch is the least there can be.
        tall, wide = (max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width))
    elif tall * wide < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        tall, wide = (math.ceil(side * grow / factor) * factor for side in (height, width))
    return tall, wide


def most_pixels(num_frames: int, settings: ClipSettings) -> float:
    """The budget of one frame, lower where many share `total_pixels` (qwen-vl-utils fetch_video)."""
    if settings.total_pixels is None:
        return settings.max_pixels
    share = min(settings.max_pixels, settings.total_pixels / num_frames * 2)
    return max(share, int(settings.min_pixels * 1.05))


def patchify(frames: Tensor, layout: PatchLayout) -> tuple[Tensor, tuple[int, int, int]]:
    """Cut frames into patches, the four (merge_size²) that become one token next to each other.

    Args:
        frames: (F, 3, H, W); H and W multiples of `layout.factor`; an odd F repeats the last frame.
        layout: the sizes.
    Returns:
        (T·H·W, 3·P·p·p) patches, each (colour, frame, row, column) flattened; and the grid (T, H, W).
    """
    span, side, merge = layout.temporal_patch_size, layout.patch_size, layout.merge_size
    if missing := -len(frames) % span:
        frames = torch.cat([frames, frames[-1:].expand(missing, -1, -1, -1)])
    grid = (len(frames) // span, frames.shape[2] // side, frames.shape[3] // side)
    split = (grid[0], span, 3, grid[1] // merge, merge, side, grid[2] // merge, merge, side)
    # (T, H/m, W/m, m, m, colour, P, p, p)
    patches = frames.reshape(split).permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return patches.reshape(math.prod(grid), -1), grid


def look(
    video: Tensor,
    fps: float,
    *,
    settings: ClipSettings,
    layout: PatchLayout,
    device: torch.device | None = None,
) -> Patches:
    """Everything above in a row: what a data worker does to a decoded video.

    Args:
        video: (F, 3, H, W), float in [0, 1]; F at least 2.
        fps: frames per second of the video.
        settings, layout: how it is looked at.
        device: where it is resized and cut; None is the video's.
    Returns:
        The patches; float with a gradient to `video` where it requires one and gradients are on, else uint8.
    Raises:
        ReelignError: too few frames, or a shape that cannot be resized.
    """
    indices = frame_indices(len(video), fps, settings)
    # Frames that are not looked at are neither moved nor resized.
    frames = video[torch.tensor(indices, device=video.device)].to(device or video.device)
    budget = most_pixels(len(indices), settings)
    size = smart_resize(*frames.shape[-2:], factor=layout.factor, min_pixels=settings.min_pixels, max_pixels=budget)
    resized = resize(levels(frames), *size, filter="bicubic", resizer="torchvision")
    pixels, grid = patchify(resized, layout)
    span = layout.temporal_patch_size
    padded = indices + indices[-1:] * (-len(indices) % span)
    times = tuple((padded[start] + padded[start + span - 1]) / 2 / fps for start in range(0, len(padded), span))
    return Patches(
        pixels=pixels if pixels.requires_grad else pixels.to(torch.uint8),
        grid=grid,
        times=times,
        # Frames looked at per second, as qwen-vl-utils counts them.
        seconds_per_patch=span * len(video) / (len(indices) * fps),
    )


def normalise(pixels: Tensor, layout: PatchLayout) -> Tensor:
    """Patches of 0 to 255 as the vision tower takes them: (pixels / 255 - mean) / std per colour, float32.

    Args:
        pixels: (N, 3·P·p·p) as from `patchify`.
        layout: for mean and std.
    """
    mean, std = (
        torch.tensor(values, device=pixels.device).repeat_interleave(pixels.shape[1] // 3)
        for values in (layout.mean, layout.std)
    )
    # One pass over the patches, which are most of what a batch holds.
    return torch.addcmul(-mean / std, pixels.float(), 1 / (255 * std))
