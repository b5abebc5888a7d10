"""Best of N: one prompt sampled from N seeds, and the video that a reward likes best.

A reward on pixels sees finished videos. One on latents may look half-way and give up the worst (`keep`), which saves
the rest of their denoiser calls and every decode but one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reelign.diffusion.guidance import check_dimensions
from reelign.errors import ReelignError
from reelign.generators.base import Generator
from reelign.recipes.candidates import Candidates
from reelign.recipes.sampling import Sampling
from reelign.rewards.base import Reward
from reelign.rewards.judging import checked
from reelign.training.asked import against
from reelign.training.latent_reward import LatentReward
from reelign.training.latent_search import SearchSettings, best_of


@dataclass(frozen=True, kw_only=True, slots=True)
class BestOfSettings:
    """How many candidates there are, and by what the best of them is chosen."""

    candidates: int = 8
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weight of each of the reward's dimensions; none weighs all of them alike, to a sum of 1."""
    keep: int = 0
    """So many go on after a look half-way, which a latent reward can take; 0 sees all of them through."""
    look: float = 0.5
    """The share of the steps after which it looks."""

    def __post_init__(self) -> None:
        if self.candidates < 2:
            raise ValueError(f"candidates must be at least 2, got {self.candidates}")
        if not 0 <= self.keep <= self.candidates:
            raise ValueError(f"keep must be from 0 to candidates={self.candidates}, got {self.keep}")
        if not 0 < self.look < 1:
            raise ValueError(f"look must be a share of the steps in (0, 1), got {self.look}")
        if not all(math.isfinite(weight) for weight in self.weights.values()):
            raise ValueError(f"weights must be finite numbers, got {dict(self.weights)}")

    def weighing(self, dimensions: tuple[str, ...]) -> dict[str, float]:
        """The weights over a reward's dimensions.

        Raises:
            ReelignError: a weight of a dimension that the reward lacks.
        """
        check_dimensions(self.weights, dimensions)
        return dict(self.weights) or dict.fromkeys(dimensions, 1 / len(dimensions))


@dataclass(frozen=True)
class BestVideo:
    """What a search found."""

    video: Tensor
    """(F, 3, H, W) in [0, 1]."""
    seed: int
    scores: dict[int, float]
    """Seed -> weighted reward of each candidate that was seen through; NaN could not be scored."""
    at_look: dict[int, float]
    """The same of all candidates half-way; empty where nothing looked."""
    denoiser_calls: int
    """Of single videos, both sides of guidance counted."""
    plain_calls: int
    """What seeing all candidates through takes."""


@dataclass(frozen=True)
class Search:
    """Candidates of one prompt from several seeds, and the best of them by one reward or another."""

    generator: Generator
    sampling: Sampling
    """Size, steps and guidance of the videos."""
    prompt: str
    seeds: list[int]
    """`how.candidates` of them."""
    how: BestOfSettings
    batch_size: int
    """Videos that are sampled at once."""

    def by_latents(self, reward: LatentReward) -> BestVideo:
        """The best by a reward of this model's latents, of videos of one segment; one video is decoded.

        Raises:
            ReelignError: a weight of a dimension that the reward lacks, or no candidate that it could score.
        """
        weights = self.how.weighing(reward.settings.dimensions)
        candidates = Candidates(self.generator, self.sampling, [self.prompt])
        own = candidates.encoded([self.prompt])
        found = best_of(
            self.generator,
            reward,
            weights,
            own,
            against(own, candidates.negative),
            self.seeds,
            self.sampling.size,
            steps=self.sampling.steps,
            guidance_scale=self.sampling.guidance_scale,
            settings=SearchSettings(
                candidates=self.how.candidates, keep=self.how.keep or self.how.candidates, look=self.how.look
            ),
            batch_size=self.batch_size,
        )
        with torch.no_grad():
            video = self.generator.decode(found.latents)[0].cpu()
        return BestVideo(video, found.seed, found.at_end, found.at_look, found.denoiser_calls, self._plain_calls())

    def by_pixels(self, reward: Reward) -> BestVideo:
        """The best by a reward of finished videos.

        Raises:
            ReelignError: as `by_latents`, or an early look, which such a reward cannot take.
        """
        weights = self.how.weighing(reward.dimensions)
        if self.how.keep not in (0, self.how.candidates):
            raise ReelignError(
                f"The reward {reward.name} sees finished videos, and keep={self.how.keep} would give up candidates "
                "half-way.",
                "Leave out keep, or choose by a latent reward (reelign latent-reward train).",
            )
        candidates = Candidates(self.generator, self.sampling, [self.prompt])
        starts = range(0, len(self.seeds), self.batch_size)
        parts = [self.seeds[start : start + self.batch_size] for start in starts]
        videos = torch.cat([candidates.make([self.prompt] * len(part), part).videos.cpu() for part in parts])
        # At once: a reward may compare the candidates of a prompt with each other.
        found = checked(reward, videos.nan_to_num(0.0), [self.prompt] * len(videos), self.sampling.fps)
        total = torch.stack([found[name] * weight for name, weight in weights.items()]).sum(dim=0)
        total[~torch.isfinite(videos.flatten(1)).all(dim=1)] = math.nan
        if not bool(torch.isfinite(total).any()):
            raise ReelignError(
                f"The reward {reward.name} could score none of {len(videos)} candidates.",
                "Look at one of them: reelign sample without --best-of.",
            )
        best = int(total.nan_to_num(nan=-math.inf).argmax())
        calls = self._plain_calls()
        scores = dict(zip(self.seeds, total.tolist(), strict=True))
        return BestVideo(videos[best], self.seeds[best], scores, {}, calls, calls)

    def _plain_calls(self) -> int:
        sampling = self.sampling
        passes = self.generator.passes(sampling.guidance_scale)
        return passes * self.how.candidates * sampling.steps * sampling.segments
