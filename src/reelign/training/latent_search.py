"""Best of N seeds by a latent reward, which reads them half-way: what looks worst is not sampled to its end."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from reelign.diffusion.guidance import Weights, check_dimensions
from reelign.diffusion.samplers import VelocityFunction, initial_noise, sample_euler
from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator, Guidance, VideoSize
from reelign.training.latent_reward import LatentReward


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSettings:
    """How many candidates begin, and how many are seen through."""

    candidates: int = 8
    keep: int = 2
    """So many go on after the look; as many as `candidates` is plain best of N."""
    look: float = 0.5
    """The share of the steps after which they are looked at."""

    def __post_init__(self) -> None:
        if not 1 <= self.keep <= self.candidates:
            raise ValueError(f"keep must be from 1 to candidates={self.candidates}, got {self.keep}")
        if not 0 < self.look < 1:
            raise ValueError(f"look must be a share of the steps in (0, 1), got {self.look}")


@dataclass(frozen=True)
class Best:
    """What a search found."""

    latents: Tensor
    """(1, C, F, H, W) clean."""
    seed: int
    denoiser_calls: int
    """Of single videos; a step is `Generator.passes` of them."""
    at_look: dict[int, float]
    """Seed -> weighted reward half-way."""
    at_end: dict[int, float]
    """The same of those that were seen through, clean."""


@torch.no_grad()
def best_of(
    generator: Generator,
    reward: LatentReward,
    weights: Weights,
    conditioning: Conditioning,
    negative: Conditioning,
    seeds: list[int],
    size: VideoSize,
    *,
    steps: int,
    guidance_scale: float,
    settings: SearchSettings,
    batch_size: int = 0,
) -> Best:
    """Sample one prompt from several seeds and return the video that the reward likes best.

    Args:
        generator: that samples.
        reward: that chooses, by Σ w_k r_k.
        weights: of its dimensions, numbers.
        conditioning, negative: one row each.
        seeds: `settings.candidates` of them.
        size, steps, guidance_scale: as for `Generator.sample`.
        settings: how many are kept, and when.
        batch_size: videos in a denoiser call; 0 is all of them.
    Raises:
        ReelignError: a weight of a dimension that the reward lacks, or no candidate whose reward is a number.
    """
    if len(seeds) != settings.candidates:
        raise ValueError(f"settings ask for {settings.candidates} seeds, got {len(seeds)}")
    check_dimensions(weights, reward.settings.dimensions)
    shape = generator.latent_shape(size)
    sigmas = generator.sigmas(steps, shape).to(generator.device)
    middle = min(steps - 1, max(1, round(settings.look * steps)))
    noise = initial_noise((len(seeds), *shape), seeds, generator.device)
    velocity = functools.partial(_velocity, generator, conditioning, negative, guidance_scale)
    at_once = batch_size or len(seeds)

    def sampled(noisy: Tensor, levels: Tensor) -> Tensor:
        return torch.cat([sample_euler(velocity(len(part)), part, levels) for part in noisy.split(at_once)])

    def values(noisy: Tensor, sigma: Tensor) -> Tensor:
        return torch.cat([_value(reward, weights, conditioning, part, sigma) for part in noisy.split(at_once)])

    half = sampled(generator.start(noise, sigmas[0], conditioning), sigmas[: middle + 1])
    looked = values(half, sigmas[middle])
    kept = looked.argsort(descending=True)[: settings.keep]
    done = sampled(half[kept], sigmas[middle:])
    ended = values(done, sigmas[-1])
    winner = int(ended.argmax())
    if not torch.isfinite(ended[winner]):
        raise ReelignError(
            f"None of the {len(kept)} candidates that were seen through has a reward that is a number.",
            "Sample one without a search, and look whether the model makes videos and the reward knows them.",
        )
    return Best(
        latents=generator.path.finish(done[winner : winner + 1], sigmas[-1]),
        seed=seeds[int(kept[winner])],
        denoiser_calls=generator.passes(guidance_scale) * (len(seeds) * middle + len(kept) * (steps - middle)),
        at_look=dict(zip(seeds, looked.tolist(), strict=True)),
        at_end={seeds[place]: value for place, value in zip(kept.tolist(), ended.tolist(), strict=True)},
    )


def _velocity(
    generator: Generator, conditioning: Conditioning, negative: Conditioning, scale: float, count: int
) -> VelocityFunction:
    rows = torch.zeros(count, dtype=torch.long)
    own, guidance = conditioning.take(rows), Guidance(scale, negative.take(rows))
    return lambda noisy, sigma: generator.guided_velocity(noisy, sigma, own, guidance)


def _value(reward: LatentReward, weights: Weights, conditioning: Conditioning, noisy: Tensor, sigma: Tensor) -> Tensor:
    """Σ w_k r_k of each video, (B,); what is not finite comes last."""
    rows = torch.zeros(len(noisy), dtype=torch.long)
    found = reward(noisy, sigma.expand(len(noisy)), conditioning.take(rows))
    total = torch.stack([found[name] * weight for name, weight in weights.items()]).sum(dim=0)
    return total.nan_to_num(nan=-torch.inf)
