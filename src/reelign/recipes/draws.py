"""What every step does: draw sigma and noise for a whole batch, and walk it in micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from reelign.diffusion.noise_levels import sample_sigmas
from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator
from reelign.recipes.settings import StepSettings
from reelign.training import ALONE, Draw, Ranks, make_draw

ATTEMPTS = 100_000
"""How often levels are drawn until all lie within a range: enough for the smallest share a run may begin with."""
SMALLEST_SHARE = 1e-3


def draw_for(shape: Sequence[int], settings: StepSettings, generator: Generator, seed: int) -> Draw:
    """One draw for each of the B samples of latents `shape`, a function of the seed alone.

    Levels outside `settings.sigma_range` are drawn again, so that those within keep their proportions.
    """
    chance = generator_from(seed)

    def fresh(shape: Sequence[int]) -> Draw:
        return make_draw(
            shape,
            path=generator.path,
            distribution=settings.noise_levels,
            shift=settings.shift,
            generator=chance,
            device=generator.device,
        )

    draw, (low, high) = fresh(shape), settings.sigma_range
    for _ in range(ATTEMPTS):
        outside = (draw.sigma < low) | (draw.sigma > high)
        if not bool(outside.any()):
            return draw
        again = fresh((int(outside.sum()), 0)).sigma
        draw = Draw(draw.sigma.masked_scatter(outside, again), draw.noise)
    raise _too_narrow(settings, generator)


def check_sigma_range(settings: StepSettings, generator: Generator) -> None:
    """Refuse a range in which so few levels lie that a step would wait for them, or at last find none.

    Before the run: within it, how many attempts a step takes is chance.
    """
    low, high = settings.sigma_range
    quantiles = sample_sigmas(
        100_000, settings.noise_levels, shift=settings.shift, generator=generator_from("sigma range")
    )
    levels = generator.path.training_sigmas(quantiles)
    share = float(((levels >= low) & (levels <= high)).float().mean())
    if share < SMALLEST_SHARE:
        raise _too_narrow(settings, generator)


def _too_narrow(settings: StepSettings, generator: Generator) -> ReelignError:
    return ReelignError(
        f"{generator.model} trains on next to no noise level in sigma_range={settings.sigma_range}.",
        "Widen sigma_range, or change noise_levels or shift.",
    )


def micro_batches(count: int, size: int, ranks: Ranks = ALONE) -> Iterator[slice]:
    """Slices of at most `size` that cover this rank's part of `count` rows."""
    own = ranks.rows(count)
    return (slice(start, min(start + size, own.stop)) for start in range(own.start, own.stop, size))


def take(conditioning: Conditioning, rows: slice, times: int = 1) -> Conditioning:
    """Some rows, each `times` times in a row."""
    return Conditioning(
        {
            name: tensor[rows].repeat_interleave(times, dim=0) if times > 1 else tensor[rows]
            for name, tensor in conditioning.tensors.items()
        }
    )


def part(values: float | torch.Tensor, rows: slice) -> float | torch.Tensor:
    """The rows of a tensor; a number is the same for all."""
    return values[rows] if isinstance(values, torch.Tensor) else values
