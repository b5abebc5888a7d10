"""What teaches a reward to read the text: videos beside themselves under another prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reelign.diffusion.flow import add_noise
from reelign.generators.base import Conditioning
from reelign.objectives.ranking import A_PREFERRED, MISSING
from reelign.recipes.latent_reward.batch import LatentBatch
from reelign.recipes.reward.data import RewardData
from reelign.training import Draw

DRAWN = 8
"""Other prompts of which the nearest is shown: one that differs in a word teaches more than one that differs in all."""
LOWEST = 1.0
"""Of the scale of scores, which a video under another prompt has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherPrompts:
    """Videos beside themselves, under their own prompt and another of the data, which suits them less.

    Both sides of such a pair are the same noisy latents: nothing but the text can tell them apart. People's pairs share
    their prompt, so that a reward learns much of them before it reads a word of it.
    """

    share: float
    """How many there are for each pair of a batch."""
    dimensions: tuple[str, ...]
    """Those that depend on the prompt; of the others such a pair says nothing."""

    def count(self, pairs: int) -> int:
        """In a batch of so many pairs."""
        return min(pairs, round(self.share * pairs))

    def sides(self, data: RewardData, rows: Tensor) -> Tensor:
        """(N, 1) which video of each pair at `rows` is shown: the one that suits its prompt better, a of equal ones."""
        return (data.labels[rows, data.dimensions.index(self.dimensions[0])] < 0).long()[:, None]

    def choose(self, own: Tensor, conditioning: Conditioning, chance: torch.Generator) -> Tensor:
        """(N,) a row of another prompt for each at the rows `own` (N,): of some drawn ones the nearest as encoded."""
        steps = torch.randint(1, len(conditioning), (len(own), DRAWN), generator=chance)
        drawn = (own[:, None] + steps) % len(conditioning)
        return torch.stack([_nearest(conditioning, one, others) for one, others in zip(own, drawn, strict=True)])

    def batch(
        self,
        latents: Tensor,
        conditioning: Conditioning,
        draw: Draw,
        scores: Tensor,
        dimensions: tuple[str, ...],
        names: Sequence[str],
    ) -> LatentBatch:
        """The pairs of N videos.

        Args:
            latents: (N, C, F, H, W).
            conditioning: 2N rows, of each video its own prompt and another.
            draw: N of them.
            scores: (N, D) of the videos under their own prompts, which regression learns from.
            dimensions: of the reward.
            names: of the videos, for messages.
        """
        both = draw.repeat(2)
        row = torch.tensor([A_PREFERRED if name in self.dimensions else MISSING for name in dimensions])
        # NaN in all but these dimensions.
        own, other = row * scores, (row * LOWEST).expand_as(scores)
        return LatentBatch(
            noisy=add_noise(latents.repeat_interleave(2, dim=0), both.noise, both.sigma),
            sigma=both.sigma,
            conditioning=conditioning,
            pairs=torch.arange(2 * len(latents)).unflatten(0, (-1, 2)),
            labels=row.repeat(len(latents), 1),
            gaps=torch.full((len(latents), len(dimensions)), MISSING),
            scores=torch.stack([own, other], dim=1).flatten(0, 1),
            names=tuple(f"{name} under another prompt" for name in names),
        )


def _nearest(conditioning: Conditioning, own: Tensor, others: Tensor) -> Tensor:
    """Of the rows `others` the one nearest to the row `own`."""
    gaps = [
        (each[others].float() - each[own].float()).square().flatten(1).sum(dim=1)
        for each in conditioning.tensors.values()
        if each.is_floating_point()
    ]
    return others[int(torch.stack(gaps).sum(dim=0).argmin())]
