"""Rewards of pixels that can be differentiated by hand, and ones that go wrong as rewards do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reelign.rewards import Reward, RewardCard, Videos, check_input


class Light(Reward):
    """Mean brightness of the frames: every pixel's derivative is 1 over their number."""

    card = RewardCard(what="Brightness", dimensions=("light",), differentiable=True, frames_needed=1)
    name = "light"
    version = "1"
    dimensions = ("light",)

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.rates: list[float | None] = []

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        check_input(self, videos, prompts, fps=fps)
        assert isinstance(videos, Tensor)
        self.shapes.append(tuple(videos.shape))
        self.rates.append(fps)
        return {"light": self.measure(videos)}

    def measure(self, videos: Tensor) -> Tensor:
        return videos.flatten(1).mean(dim=1)


class ByHeart(Light):
    """Knows its prompts by heart, and is asked with them alone."""

    name = "by heart"

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        lights = {"a red square": 1.0}
        known = torch.tensor([lights[prompt] for prompt in prompts])
        return {"light": known * super().score(videos, prompts, fps=fps)["light"]}


class Detached(Light):
    """Looks at the numbers and not at the tensor, as code does that was written for scoring."""

    name = "detached"

    def measure(self, videos: Tensor) -> Tensor:
        return videos.detach().flatten(1).mean(dim=1)


class Rounded(Light):
    """Rounds to 8 bits: a graph is there and everywhere 0."""

    name = "rounded"

    def measure(self, videos: Tensor) -> Tensor:
        return (videos * 255).round().flatten(1).mean(dim=1)


class Unsure(Light):
    """Cannot score the videos of one prompt, and its derivative there is no number either."""

    name = "unsure"

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        found = super().score(videos, prompts, fps=fps)["light"]
        lost = torch.tensor(["disc" in prompt for prompt in prompts])
        return {"light": found * torch.where(lost, float("nan"), 1.0)}


class Blind(Unsure):
    """Can score none."""

    name = "blind"

    def measure(self, videos: Tensor) -> Tensor:
        return videos.flatten(1).mean(dim=1) * float("nan")


class Short(Light):
    """One score for all videos together."""

    name = "short"

    def measure(self, videos: Tensor) -> Tensor:
        return videos.mean()[None]


class Steep(Light):
    """Its derivative is not finite anywhere."""

    name = "steep"

    def measure(self, videos: Tensor) -> Tensor:
        return (0 * videos).flatten(1).mean(dim=1).sqrt()


class Counted(Light):
    """Gives no gradient, and says so."""

    card = RewardCard(what="Brightness", dimensions=("light",), differentiable=False, frames_needed=1)
    name = "counted"
