"""Rewards that part ways by construction, for the watch: how bright videos are, and what a test says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reelign.rewards import Reward, RewardCard, Videos

DRIFT = [0.0]
"""What is added to every score of `Light`, and taken from every one of `Dark`."""


class Light(Reward):
    """Mean brightness and the drift; a video that is black all over cannot be scored."""

    card = RewardCard(what="Brightness", dimensions=("light",), differentiable=True, frames_needed=1)
    name = "light"
    version = "1"
    dimensions = ("light",)
    sign = 1.0

    def __init__(self) -> None:
        self.asked = 0

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        self.asked += len(prompts)
        light = torch.stack([video.float().mean() for video in videos])
        return {"light": (self.sign * (light / 100 + DRIFT[0])).where(light != 0, float("nan"))}


class Dark(Light):
    """The opposite: whatever makes one better makes the other worse."""

    name = "dark"
    sign = -1.0


class Bright(Light):
    """The same by another name: what is good for one is good for the other."""

    name = "bright"


class Random(Light):
    """Draws from the global generator, as no reward should."""

    name = "random"

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        return {"light": torch.rand(len(prompts))}


class Relative(Light):
    """Scores a batch against itself."""

    name = "relative"
    relative = True
