"""Rollouts: the candidates of a few prompts, sampled from a policy as it stands, as latents that training eats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from, seed_from
from reelign.generators.base import Generator, Guidance, VideoSize
from reelign.training.asked import Sides
from reelign.training.policy import Policy, Weights


@dataclass(frozen=True)
class Group:
    """The candidates of one prompt."""

    prompt: str
    row: int
    """Of its text conditioning."""
    seeds: list[int]
    """Of each candidate's noise."""


def next_groups(prompts: Sequence[str], first: int, count: int, *, candidates: int, seed: int) -> list[Group]:
    """Groups `first` to `first + count` of an endless shuffle of the prompts, each candidate with noise of its own.

    They are a function of place and seed alone: the same however they are cut into steps and over ranks.
    """
    found = []
    for position in range(first, first + count):
        epoch, place = divmod(position, len(prompts))
        row = int(torch.randperm(len(prompts), generator=generator_from(seed, "prompts", epoch))[place])
        seeds = [seed_from(seed, "candidate", position, index) for index in range(candidates)]
        found.append(Group(prompts[row], row, seeds))
    return found


@dataclass(frozen=True)
class Rollout:
    """Groups that were sampled together."""

    groups: list[Group]
    latents: Tensor
    """(groups, candidates, C, F, H, W), on the generator's device; what training eats, never decoded and encoded."""

    @property
    def prompts(self) -> list[str]:
        """Of each video, group by group."""
        return [group.prompt for group in self.groups for _ in group.seeds]

    @property
    def names(self) -> list[str]:
        """What a person would call each video."""
        return [f"{group.prompt!r} with seed {seed}" for group in self.groups for seed in group.seeds]


@dataclass(frozen=True)
class Sampler:
    """How candidates are sampled.

    Args:
        size: in pixels.
        steps: of the Euler sampler.
        guidance_scale: above 1 a step asks the model `Generator.passes` times, twice for most.
        sides: of guidance, a row for each prompt; encoded beforehand, on any device.
        batch_size: videos in one call of the sampler.
        guidance_scale_2: of the expert for low noise, where a model has two; None is its own beside `guidance_scale`.
    """

    size: VideoSize
    steps: int
    guidance_scale: float
    sides: Sides
    batch_size: int
    guidance_scale_2: float | None = None

    @torch.no_grad()
    def roll_out(self, policy: Policy, groups: Sequence[Group], *, weights: Weights = "policy") -> Iterator[Rollout]:
        """Sample the groups, as many whole ones at a time as `batch_size` holds; a larger group goes in parts.

        A candidate depends on its prompt, its seed and the weights, and on its neighbours in the batch in the last bits
        alone.

        Args:
            policy: whose generator samples.
            groups: all of as many candidates.
            weights: which of its weights; `base` for the model as it was before any training.
        """
        for rows in self._together(groups):
            part = list(groups[rows])
            with policy.using(weights):
                latents = torch.cat(list(self._sampled(policy.generator, part)))
            yield Rollout(part, latents.unflatten(0, (len(part), -1)))

    def parts(self, groups: Sequence[Group], latents: Tensor) -> list[Rollout]:
        """Candidates (groups, candidates, ...) that were sampled before, in the parts in which `roll_out` gave them."""
        return [Rollout(list(groups[rows]), latents[rows]) for rows in self._together(groups)]

    def _together(self, groups: Sequence[Group]) -> list[slice]:
        size = max(1, self.batch_size // len(groups[0].seeds))
        return [slice(start, start + size) for start in range(0, len(groups), size)]

    def _sampled(self, generator: Generator, groups: list[Group]) -> Iterator[Tensor]:
        rows = torch.tensor([group.row for group in groups for _ in group.seeds])
        seeds = [seed for group in groups for seed in group.seeds]
        for start in range(0, len(seeds), self.batch_size):
            part = slice(start, start + self.batch_size)
            own, negative = (side.to(generator.device) for side in self.sides.take(rows[part]))
            guidance = Guidance(self.guidance_scale, negative, self.guidance_scale_2)
            yield generator.sample(own, seeds[part], self.size, steps=self.steps, guidance=guidance)
