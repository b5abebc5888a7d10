"""A clip longer than a model makes: segments of equal length, each going on from the last frame of the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reelign.errors import ReelignError


@dataclass(frozen=True, slots=True)
class LongClip:
    """Which frame of which segment each frame of the clip is.

    A segment's own first frame shows the moment that it was given, which the segment before has shown: of all segments
    but the first it is left out, so that S segments of F frames make S·(F - 1) + 1.
    """

    segments: int
    """S, at least 1."""
    frames: int
    """F, of each segment; at least 2 where there are several."""

    def __post_init__(self) -> None:
        if self.segments < 1 or self.frames < 1 or (self.segments > 1 and self.frames < 2):
            raise ReelignError(
                f"A clip of {self.segments} segments of {self.frames} frames cannot be.",
                "Take at least one segment, and segments of at least 2 frames where there are several.",
            )

    @property
    def length(self) -> int:
        """Frames of the whole clip."""
        return self.segments * (self.frames - 1) + 1

    @property
    def joints(self) -> list[int]:
        """Frames that a segment ends with and the next goes on from."""
        return [place * (self.frames - 1) for place in range(1, self.segments)]

    def place(self, frame: int) -> tuple[int, int]:
        """The segment that a frame of the clip is of, and which of its frames; a joint is the earlier segment's."""
        segment = max(0, (frame - 1) // (self.frames - 1)) if self.segments > 1 else 0
        return segment, frame - segment * (self.frames - 1)

    def within(self, frames: Sequence[int]) -> list[list[int]]:
        """Frames of the clip as those of each segment, (S,) lists in the order given."""
        found: list[list[int]] = [[] for _ in range(self.segments)]
        for frame in frames:
            segment, own = self.place(frame)
            found[segment].append(own)
        return found

    def over_joints(self, count: int) -> list[list[int]]:
        """A window of `count` neighbouring frames over each joint: half of them up to it, the rest behind it.

        Raises:
            ReelignError: so many frames would reach over two joints or more.
        """
        self._check(count)
        return [_window(joint + 1 - count // 2, count) for joint in self.joints]

    def inside(self, count: int) -> list[list[int]]:
        """A window of `count` neighbouring frames in the middle of what each segment made, over no joint.

        Raises:
            ReelignError: as `over_joints`.
        """
        self._check(count)
        made = self.frames - 1
        return [_window(place * made + 1 + (made - count) // 2, count) for place in range(self.segments)]

    def _check(self, count: int) -> None:
        if not 2 <= count < self.frames:
            raise ReelignError(
                f"A window of {count} frames cannot lie over one joint alone of segments of {self.frames} frames.",
                f"Take 2 to {self.frames - 1} frames." if self.frames > 2 else "Take segments of 3 frames or more.",
            )


def _window(start: int, count: int) -> list[int]:
    return list(range(start, start + count))


def joined(segments: Sequence[Tensor]) -> Tensor:
    """The videos (B, F, 3, H, W) of a long clip's segments as its own, (B, S·(F - 1) + 1, 3, H, W)."""
    return torch.cat([video if place == 0 else video[:, 1:] for place, video in enumerate(segments)], dim=1)
