"""A rollout of which some steps carry gradient: the sampler's step bound to prompts, noise and levels, and counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reelign.diffusion.flow import add_noise
from reelign.diffusion.samplers import initial_noise
from reelign.diffusion.steps import Euler, SamplerStep, step_noise
from reelign.diffusion.truncation import Route, run
from reelign.generators.base import Conditioning, Generator, Guidance


@dataclass
class GradedRollout:
    """The steps of one batch of videos.

    Args:
        generator: whose denoiser is asked.
        conditioning: a row for each video, on the generator's device.
        guidance: its negative with a row for each video too.
        sampler: the step of it.
        route: levels to visit and how many of the last steps carry gradient.
        seeds: of each video; all noise follows from them.
    """

    generator: Generator
    conditioning: Conditioning
    guidance: Guidance
    sampler: SamplerStep
    route: Route
    seeds: list[int]
    plain: int = field(default=0, init=False)
    """Calls of the denoiser without a graph so far, both sides of guidance as one."""
    graded: int = field(default=0, init=False)
    """Calls with one."""

    def velocity(self, noisy_latents: Tensor, sigma: Tensor) -> Tensor:
        """The guided velocity, counted."""
        found = self.generator.guided_velocity(noisy_latents, sigma, self.conditioning, self.guidance)
        if found.requires_grad:
            self.graded += 1
        else:
            self.plain += 1
        return found

    def step(self, noisy_latents: Tensor, index: int) -> Tensor:
        """One step of the route; the same inputs give the same latents however often it runs."""
        last = index == self.route.steps - 1
        sampler = Euler() if self.route.estimate and last else self.sampler
        noise = None
        if sampler.stochastic:
            noise = step_noise(tuple(noisy_latents.shape), self.seeds, index, noisy_latents.device)
        now, then = self.route.sigmas[index : index + 2].to(noisy_latents.device)
        return sampler(self.velocity, noisy_latents, now, then, noise)

    def start(self, shape: tuple[int, int, int, int], real: Tensor | None = None) -> Tensor:
        """Noisy latents (B, C, F, H, W) at the route's first level: noise, or clean latents with noise in them."""
        noise = initial_noise((len(self.seeds), *shape), self.seeds, self.generator.device)
        level = self.route.sigmas[0].to(noise)
        if real is None:
            return self.generator.start(noise, level, self.conditioning)
        return add_noise(real.to(noise), noise, level.expand(len(noise)))

    @torch.no_grad()
    def graded_inputs(self, start: Tensor) -> Iterator[Tensor]:
        """What the first graded step begins with: one tensor, or one for each time that the sample is noised again."""
        noisy = run(self.step, start, self.route.prefix)
        if not self.route.renoisings:
            yield noisy
            return
        clean = self.finish(noisy)
        level = self.route.sigmas[-2].to(clean).expand(len(clean))
        for time in range(self.route.renoisings):
            # Numbered behind the steps, whose own noises these must not be.
            noise = step_noise(tuple(clean.shape), self.seeds, self.route.steps + time, clean.device)
            yield add_noise(clean, noise, level)

    def finish(self, noisy_latents: Tensor) -> Tensor:
        """Clean latents from those after the last step; those of a route that ends above the clean end as they are."""
        if self.route.noisy:
            return noisy_latents
        return self.generator.path.finish(noisy_latents, self.route.sigmas[-1].to(noisy_latents))

    def level(self, latents: Tensor) -> Tensor:
        """The noise level (B,) of what `finish` gave, as the family's denoiser knows it."""
        if self.route.noisy:
            return self.route.sigmas[-1].to(latents).expand(len(latents))
        return self.generator.path.clean_sigmas(len(latents)).to(latents)

    @property
    def first(self) -> int:
        """Index of the first graded step."""
        return self.route.steps - self.route.graded

    def check_length(self, before: int, wanted: int) -> None:
        """The graph must hold as many steps as the route says: a longer one would eat memory in silence."""
        made = self.graded - before
        assert made == wanted, f"a graph of {made} steps where {wanted} carry gradient"
