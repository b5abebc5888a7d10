"""Rewards that can be worked by hand."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from torch import Tensor

from reelign.rewards import Reward, RewardCard, Videos, check_input


class Light(Reward):
    """VQ is the mean brightness, TA the number of letters in the prompt; a black video cannot be scored on VQ."""

    card = RewardCard(what="Brightness", dimensions=("VQ", "TA"), differentiable=True, frames_needed=1)
    name = "light"
    version = "1"
    dimensions = ("VQ", "TA")

    def __init__(self, *, gain: float = 1.0) -> None:
        self.gain = gain
        self.calls: list[int] = []
        """Videos in each call."""
        self.seen: list[Videos] = []

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        check_input(self, videos, prompts, fps=fps)
        self.calls.append(len(videos))
        self.seen.append(videos)
        light = torch.stack([video.float().mean() for video in videos]) * self.gain
        return {"VQ": light.where(light != 0, float("nan")), "TA": torch.tensor([float(len(each)) for each in prompts])}


class Slow(Light):
    """Waits at a gate before it scores."""

    name = "slow"

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.gate = threading.Event()

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        self.entered.set()
        assert self.gate.wait(20)
        return super().score(videos, prompts, fps=fps)


class Broken(Light):
    """Fails as a model does whose author did not foresee something."""

    name = "broken"

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        raise ZeroDivisionError("secret detail")


def factory(*, gain: float) -> Light:
    """A function that gives a reward."""
    return Light(gain=gain)


def no_reward() -> str:
    return "light"


opened = Light()
