"""A judge that can be worked by hand: the brighter video is better."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reelign.records import Verdict


class Brightness:
    """Prefers the brighter video on VQ, and sees no difference on MQ."""

    name = "brightness"
    version = "1"
    dimensions: tuple[str, ...] = ("VQ", "MQ")

    def __init__(self) -> None:
        self.asked = 0

    def compare(
        self, videos_a: Tensor, videos_b: Tensor, prompts: Sequence[str], *, generator: torch.Generator
    ) -> list[dict[str, Verdict]]:
        self.asked += len(prompts)
        lighter = videos_a.flatten(1).mean(dim=1) > videos_b.flatten(1).mean(dim=1)
        return [{"VQ": "a" if brighter else "b", "MQ": "tie"} for brighter in lighter.tolist()]


class Hasty(Brightness):
    """Stops before the last pair."""

    def compare(
        self, videos_a: Tensor, videos_b: Tensor, prompts: Sequence[str], *, generator: torch.Generator
    ) -> list[dict[str, Verdict]]:
        return super().compare(videos_a, videos_b, prompts, generator=generator)[:-1]


class OneSided(Brightness):
    """Forgets a dimension."""

    def compare(
        self, videos_a: Tensor, videos_b: Tensor, prompts: Sequence[str], *, generator: torch.Generator
    ) -> list[dict[str, Verdict]]:
        return [{"VQ": "a"} for _ in prompts]
