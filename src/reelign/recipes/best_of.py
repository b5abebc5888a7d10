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


def best_by_latents(
    generator: Generator,
    reward: LatentReward,
    sampling: Sampling,
    prompt: str,
    seeds: list[int],
    how: BestOfSettings,
    batch_size: int,
) -> BestVideo:
    """The best by a reward on latents; one video is decoded.

    Args:
        generator: that samples.
        reward: of that model.
        sampling: size, steps and guidance of the videos, of one segment.
        prompt: what they show.
        seeds: `how.candidates` of them.
        how: how many are kept, when, and by which weights.
        batch_size: videos that are sampled at once.
    Raises:
        ReelignError: a weight of a dimension that the reward lacks, or no candidate that it could score.
    """
    weights = how.weighing(reward.settings.dimensions)
    candidates = Candidates(generator, sampling, [prompt])
    own = candidates.encoded([prompt])
    found = best_of(
        generator,
        reward,
        weights,
        own,
        against(own, candidates.negative),
        seeds,
        sampling.size,
        steps=sampling.steps,
        guidance_scale=sampling.guidance_scale,
        settings=SearchSettings(candidates=how.candidates, keep=how.keep or how.candidates, look=how.look),
        batch_size=batch_size,
    )
    with torch.no_grad():
        video = generator.decode(found.latents)[0].cpu()
    return BestVideo(
        video, found.seed, found.at_end, found.at_look, found.denoiser_calls, _plain(generator, sampling, how)
    )


def best_by_pixels(
    generator: Generator,
    reward: Reward,
    sampling: Sampling,
    prompt: str,
    seeds: list[int],
    how: BestOfSettings,
    batch_size: int,
) -> BestVideo:
    """The best by a reward of finished videos. Arguments as of `best_by_latents`.

    Raises:
        ReelignError: as there, or an early look, which such a reward cannot take.
    """
    weights = how.weighing(reward.dimensions)
    if how.keep not in (0, how.candidates):
        raise ReelignError(
            f"The reward {reward.name} sees finished videos, and keep={how.keep} would give up candidates half-way.",
            "Leave out keep, or choose by a latent reward (reelign latent-reward train).",
        )
    candidates = Candidates(generator, sampling, [prompt])
    parts = [seeds[start : start + batch_size] for start in range(0, len(seeds), batch_size)]
    videos = torch.cat([candidates.make([prompt] * len(part), part).videos.cpu() for part in parts])
    # At once: a reward may compare the candidates of a prompt with each other.
    found = checked(reward, videos.nan_to_num(0.0), [prompt] * len(videos), sampling.fps)
    total = torch.stack([found[name] * weight for name, weight in weights.items()]).sum(dim=0)
    total[~torch.isfinite(videos.flatten(1)).all(dim=1)] = math.nan
    if not bool(torch.isfinite(total).any()):
        raise ReelignError(
            f"The reward {reward.name} could score none of {len(videos)} candidates.",
            "Look at one of them: reelign sample without --best-of.",
        )
    best = int(total.nan_to_num(nan=-math.inf).argmax())
    calls = _plain(generator, sampling, how)
    return BestVideo(videos[best], seeds[best], dict(zip(seeds, total.tolist(), strict=True)), {}, calls, calls)


def _plain(generator: Generator, sampling: Sampling, how: BestOfSettings) -> int:
    return generator.passes(sampling.guidance_scale) * how.candidates * sampling.steps * sampling.segments
