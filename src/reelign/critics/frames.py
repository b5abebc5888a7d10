"""What a critic is shown of a video: a few frames, evenly spread over it, whole."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.preprocess import levels, pad_to_square, spaced
from reelign.video import Clip

Spread = Literal["ends", "starts"]
"""ends: from the first frame to the last. starts: the first frame of each of as many equal parts, int(i · F / n)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """The frames of one video that are looked at."""

    frames: Tensor
    """(n, 3, H, W) uint8."""
    times: tuple[float, ...]
    """(n) seconds from the video's start to each frame."""
    seconds: float
    """The video's length."""

    @property
    def fps(self) -> float:
        """Frames shown per second of video."""
        return len(self.frames) / self.seconds

    @cached_property
    def content(self) -> str:
        """A digest of all that is shown."""
        digest = hashlib.sha256(repr((tuple(self.frames.shape), self.times, self.seconds)).encode())
        digest.update(self.frames.contiguous().numpy().data)
        return digest.hexdigest()


Part: TypeAlias = "str | Shown"
"""A question is texts and videos in the order in which they are read."""


def shown(clip: Clip, count: int, spread: Spread = "ends") -> Shown:
    """The frames of a video that a critic looks at.

    Args:
        clip: (F, 3, H, W) in [0, 1], at any size; nothing is cropped.
        count: how many; a shorter video is shown whole.
        spread: where they stand.
    Raises:
        ReelignError: a video without frames, of another shape, or without a frame rate.
    """
    frames = clip.frames
    if frames.ndim != 4 or frames.shape[1] != 3 or not len(frames) or not frames.is_floating_point():
        raise ReelignError(
            f"A video has shape {tuple(frames.shape)} of {frames.dtype}.",
            "A video is (frames, 3, height, width), float in [0, 1].",
        )
    if not 0 < clip.fps < math.inf:
        raise ReelignError(f"A video has a frame rate of {clip.fps}.", "Give frames per second above 0.")
    number = len(frames)
    wanted = min(count, number)
    places = spaced(number, wanted) if spread == "ends" else [place * number // wanted for place in range(wanted)]
    return Shown(
        frames=levels(frames[torch.tensor(places, device=frames.device)]).to("cpu", torch.uint8),
        times=tuple(place / clip.fps for place in places),
        seconds=number / clip.fps,
    )


def squared(frames: Tensor) -> Tensor:
    """Frames (n, 3, H, W) with black around them to a square: models that cut out the middle then see all of it."""
    return pad_to_square(frames, max(frames.shape[-2:]))
