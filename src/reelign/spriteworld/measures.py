"""Measures of the small world that label nothing in the demo: they stand beside the reward."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from reelign.spriteworld.judges import attributes, diversity
from reelign.spriteworld.prompts import parse


def measures(videos: Tensor, prompts: Sequence[str]) -> dict[str, float]:
    """Share of videos (B, F, 3, H, W) whose colour, shape and motion are the prompt's, and how much they differ."""
    right = (attributes(videos) == parse(prompts).to(videos.device)).float().mean(dim=0)
    return {
        "colour right": float(right[0]),
        "shape right": float(right[1]),
        "motion right": float(right[2]),
        "diversity": diversity(videos),
    }
