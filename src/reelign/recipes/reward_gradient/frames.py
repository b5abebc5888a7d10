"""Which frames a reward sees while its gradient trains: fewer frames are less to decode and to score."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.preprocess import spaced

How = Literal["spread", "random", "segments", "window"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameChoice:
    """The frames that are decoded and scored."""

    count: int | None = None
    """How many; None is all that the reward looks at. VADER's image rewards see 1 (arXiv:2407.08737)."""
    how: How = "spread"
    """`spread` evenly from the first to the last, `random` ones at every step, one at random of each of `count`
    `segments` (InstructVideo's sparse sampling, arXiv:2312.12490), or a `window` of neighbours, for rewards of motion.
    A causal VAE decodes all that comes before the last of them."""
    start: int | None = None
    """Of a window: its first frame; None draws one at every step."""
    attenuation: float = 0.0
    """Rate at which frames count for less towards both ends of the clip, for rewards that see single frames
    (`attenuated_mean`); each frame is then scored by itself. 0 counts all alike."""

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count}")
        if self.count is None and self.how != "spread":
            raise ValueError(f"count must say how many frames how={self.how} takes, got null")
        if self.start is not None and self.how != "window":
            raise ValueError(f"start is of how=window, and how is {self.how}; leave it out")
        if self.start is not None and self.start < 0:
            raise ValueError(f"start must be at least 0, got {self.start}")
        if not self.attenuation >= 0:
            raise ValueError(f"attenuation must be at least 0, got {self.attenuation}")

    @property
    def drawn(self) -> bool:
        """Whether other frames are chosen at every step."""
        return self.count is not None and self.how != "spread" and self.start is None

    def check(self, frames: int) -> None:
        """Refuse more frames than a clip of `frames` has, or a window that reaches out of it."""
        if self.count is not None and self.count > frames:
            raise ReelignError(
                f"frames.count={self.count} is more than the {frames} frames that there are to choose from.",
                f"Set it to at most {frames}, or make longer videos.",
            )
        if self.start is not None and self.start + (self.count or 0) > frames:
            raise ReelignError(
                f"The window of frames {self.start} to {self.start + (self.count or 0) - 1} is outside the clip, whose "
                f"frames are 0 to {frames - 1}.",
                f"Set frames.start to at most {frames - (self.count or 0)}.",
            )

    def choose(self, frames: int, chance: torch.Generator) -> list[int] | None:
        """Ascending frames of a clip of `frames`; None is all of them.

        Raises:
            ReelignError: as `check`.
        """
        self.check(frames)
        if self.count is None:
            return None
        count = self.count
        if self.how == "random":
            return sorted(torch.randperm(frames, generator=chance)[:count].tolist())
        if self.how == "segments":
            bounds = [round(place * frames / count) for place in range(count + 1)]
            return [
                low + int(torch.randint(high - low, (), generator=chance)) for low, high in itertools.pairwise(bounds)
            ]
        if self.how == "window":
            first = self.start
            if first is None:
                first = int(torch.randint(frames - count + 1, (), generator=chance))
            return list(range(first, first + count))
        return spaced(frames, count)


def frame_rate(chosen: list[int], fps: float) -> float:
    """Frames per second between the chosen frames of a clip at `fps`, in the mean; one frame keeps the clip's."""
    gaps = chosen[-1] - chosen[0]
    return fps * (len(chosen) - 1) / gaps if gaps else fps


def places_in_clip(chosen: list[int], frames: int) -> Tensor:
    """Where frames stand in a clip of `frames`, (len(chosen),) in [-1, 1]: its first -1, its middle 0, its last 1."""
    return torch.tensor(chosen) * 2.0 / max(1, frames - 1) - (1.0 if frames > 1 else 0.0)
