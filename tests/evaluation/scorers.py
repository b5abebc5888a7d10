"""Scorers that can be worked by hand, and what some return by mistake."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def brightness(videos: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
    """The mean over a video."""
    return {"VQ": videos.flatten(1).mean(dim=1)}


sizes: list[int] = []
"""Of the calls of `counted`."""


def counted(videos: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
    sizes.append(len(videos))
    return {"VQ": torch.ones(len(videos), requires_grad=True) * 2}


def a_list(videos: Tensor, prompts: Sequence[str]) -> list[float]:
    return [0.0] * len(videos)


def lists(videos: Tensor, prompts: Sequence[str]) -> dict[str, list[float]]:
    return {"VQ": [0.0] * len(videos)}


def one_for_all(videos: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
    return {"VQ": videos.mean()}


def not_finite(videos: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
    return {"VQ": torch.full((len(videos),), float("nan"))}
