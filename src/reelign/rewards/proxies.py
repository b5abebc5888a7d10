"""Rewards that need no weights, over `proxy_measures`.

None of them says that a video is good: a reward that rises while one of these falls away is being gamed. They are for
monitoring, for tests, and as a small part of a composed reward.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards import proxy_measures
from reelign.rewards.base import Reward, RewardCard, Videos, check_input

SMALLEST = 16
"""Fewest pixels along a side."""


class Proxy(Reward):
    """A measure of pixels alone as a reward; videos of one size are measured together."""

    version = "1"

    def __init__(self) -> None:
        self.dimensions = self.card.dimensions

    @abstractmethod
    def measure(self, videos: Tensor) -> dict[str, Tensor]:
        """(B, F, 3, H, W) in [0, 1] to (B,) per dimension."""

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        """As `Reward.score`; prompts and fps play no part."""
        check_input(self, videos, prompts, fps=fps)
        if min(min(video.shape[-2:]) for video in videos) < SMALLEST:
            raise ReelignError(
                f"The reward {self.name!r} needs frames of {SMALLEST} px or more a side.", "Give larger videos."
            )
        if isinstance(videos, Tensor):
            return self.measure(videos.float())
        found = [self.measure(video[None].float()) for video in videos]
        return {name: torch.cat([part[name] for part in found]) for name in self.dimensions}


def _card(what: str, dimensions: tuple[str, ...], frames_needed: int) -> RewardCard:
    return RewardCard(what=what, dimensions=dimensions, differentiable=True, frames_needed=frames_needed)


class DynamicDegree(Proxy):
    """How far the fastest parts of a video move between frames."""

    name = "dynamic-degree"
    card = _card("How far the fastest parts move between two frames, by optical flow", ("dynamic_degree",), 2)

    def measure(self, videos: Tensor) -> dict[str, Tensor]:
        return {"dynamic_degree": proxy_measures.dynamic_degree(videos)}


class FrameConsistency(Proxy):
    """How alike consecutive frames are."""

    name = "frame-consistency"
    card = _card("1 less the mean difference of consecutive frames", ("frame_consistency",), 2)

    def measure(self, videos: Tensor) -> dict[str, Tensor]:
        return {"frame_consistency": proxy_measures.frame_consistency(videos)}


class Flicker(Proxy):
    """How steady the light is."""

    name = "flicker"
    card = _card("How little brightness goes up and down from frame to frame", ("steadiness",), 3)

    def measure(self, videos: Tensor) -> dict[str, Tensor]:
        return {"steadiness": proxy_measures.steadiness(videos)}


class Sharpness(Proxy):
    """How sharp the frames are."""

    name = "sharpness"
    card = _card("Variance of the Laplacian: detail, and noise with it", ("sharpness",), 1)

    def measure(self, videos: Tensor) -> dict[str, Tensor]:
        return {"sharpness": proxy_measures.sharpness(videos)}


class Colour(Proxy):
    """Colourfulness, contrast and exposure."""

    name = "colour"
    card = _card("Colourfulness, contrast and exposure", ("colourfulness", "contrast", "exposure"), 1)

    def measure(self, videos: Tensor) -> dict[str, Tensor]:
        return proxy_measures.colour(videos)
