"""The true judges as a differentiable reward: `reelign.spriteworld.reward:SpriteReward`.

With it every way to learn from a reward runs in minutes on a CPU, and what it comes to is known without error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from reelign.rewards.base import Reward, RewardCard, Videos, check_input
from reelign.spriteworld.judges import DIMENSIONS, VERSION, check_videos, scores_of, track
from reelign.spriteworld.prompts import parse

OVERALL = "overall"


class SpriteReward(Reward):
    """VQ, MQ and TA of the small world's judges in [0, 1], and their mean; gradients reach every pixel they read.

    Args:
        dimensions: what is scored; `overall` is the mean of these. A reward of VQ and TA alone is blind to motion.
    """

    card: ClassVar[RewardCard] = RewardCard(
        what="The small world's true judges: visual quality, motion, text; captions of that world alone",
        dimensions=(OVERALL, *DIMENSIONS),
        differentiable=True,
        frames_needed=4,
    )
    name = "sprites"

    def __init__(self, *, dimensions: Sequence[str] = DIMENSIONS) -> None:
        unknown = [name for name in dimensions if name not in DIMENSIONS]
        if unknown or not dimensions:
            raise ValueError(f"dimensions must be some of {', '.join(DIMENSIONS)}, got {list(dimensions)}")
        self.scored = tuple(dimensions)
        self.dimensions = (OVERALL, *self.scored)
        self.version = f"{VERSION} {' '.join(self.scored)}"

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        check_input(self, videos, prompts, fps=fps)
        stacked = videos if isinstance(videos, Tensor) else torch.stack(list(videos))
        check_videos(stacked)
        found = scores_of(track(stacked.float()), parse(prompts).to(stacked.device))
        kept = {name: found[name] for name in self.scored}
        return {OVERALL: torch.stack(list(kept.values())).mean(dim=0), **kept}
