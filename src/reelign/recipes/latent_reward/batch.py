"""A batch of pairs of noisy latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reelign.generators.base import Conditioning

BESIDE = ("noisy", "sigma", "labels", "gaps", "scores")
"""Fields that are joined row by row."""


@dataclass(frozen=True, kw_only=True)
class LatentBatch:
    """P pairs of 2P videos, a and b one after the other."""

    noisy: Tensor
    """(2P, C, F, H, W)"""
    sigma: Tensor
    """(2P,)"""
    conditioning: Conditioning
    """2P rows."""
    pairs: Tensor
    """(P, 2) int64, places in `noisy`."""
    labels: Tensor
    """(P, D) float32, as `RewardData.labels`."""
    gaps: Tensor
    """(P, D) float32, as `RewardData.gaps()`."""
    scores: Tensor
    """(2P, D) float32, as `RewardData.scores`."""
    names: tuple[str, ...] = ()
    """Of the pairs, for messages."""

    def rows(self, start: int, stop: int) -> LatentBatch:
        """Some of its pairs."""
        sides = slice(2 * start, 2 * stop)
        count = len(self.labels[start:stop])
        return LatentBatch(
            noisy=self.noisy[sides],
            sigma=self.sigma[sides],
            conditioning=self.conditioning.take(torch.arange(len(self.noisy))[sides]),
            pairs=torch.arange(2 * count).unflatten(0, (-1, 2)),
            labels=self.labels[start:stop],
            gaps=self.gaps[start:stop],
            scores=self.scores[sides],
            names=self.names[start:stop],
        )

    def beside(self, other: LatentBatch) -> LatentBatch:
        """Both batches' pairs, these first."""
        both = {name: torch.cat([getattr(self, name), getattr(other, name)]) for name in BESIDE}
        return LatentBatch(
            conditioning=Conditioning.cat([self.conditioning, other.conditioning]),
            pairs=torch.arange(len(both["noisy"])).unflatten(0, (-1, 2)),
            names=self.names + other.names,
            **both,
        )
