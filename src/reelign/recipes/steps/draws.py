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
from reelign.training.policy import check_experts

ATTEMPTS = 100_000
"""How often levels are drawn until all lie within a range: enough for the smallest share a run may begin with."""
SMALLEST_SHARE = 1e-3


def draw_for(shape: Sequence[int], settings: StepSettings, generator: Generator, seed: int) -> Draw:
    """One draw for each of the B samples of latents `shape`, a function of the seed alone.

    Levels outside `settings.sigma_range` are drawn again, so that those within keep their proportions. So are those of
    denoisers that do not train; and where several do, all levels of a batch are those of the first sample's, so that no
    step runs two: a batch falls to each as often as a level does, and levels keep their proportions over batches.
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

    draw = fresh(shape)
    for _ in range(ATTEMPTS):
        outside = ~_wanted(draw.sigma, settings, generator)
        if len(generator.denoisers) > 1 and not outside[0]:
            first = generator.expert(float(draw.sigma[0]))
            outside |= _of_others(draw.sigma, (first,), generator)
        if not bool(outside.any()):
            return draw
        again = fresh((int(outside.sum()), 0)).sigma
        draw = Draw(draw.sigma.masked_scatter(outside, again), draw.noise)
    raise _too_narrow(settings, generator)


def check_sigma_range(settings: StepSettings, generator: Generator) -> None:
    """Refuse a range in which so few levels lie that a step would wait for them, or at last find none.

    Before the run: within it, how many attempts a step takes is chance.
    """
    check_experts(generator, settings.experts)
    quantiles = sample_sigmas(
        100_000, settings.noise_levels, shift=settings.shift, generator=generator_from("sigma range")
    )
    levels = generator.path.training_sigmas(quantiles)
    within = levels[_wanted(levels, settings, generator)]
    if len(within) < SMALLEST_SHARE * len(levels):
        raise _too_narrow(settings, generator)
    # Named ones alone: a range may well be that of one expert of two.
    idle = [name for name in settings.experts if bool(_of_others(within, (name,), generator).all())]
    if idle:
        raise ReelignError(
            f"experts names {idle[0]}, which {generator.model} never asks within sigma_range={settings.sigma_range}.",
            "Widen sigma_range, or leave the name out.",
        )


def _wanted(sigma: torch.Tensor, settings: StepSettings, generator: Generator) -> torch.Tensor:
    """(B,) whether levels are within the range, and of a denoiser that trains."""
    low, high = settings.sigma_range
    within = (sigma >= low) & (sigma <= high)
    return within & ~_of_others(sigma, settings.experts, generator) if settings.experts else within


def _of_others(sigma: torch.Tensor, experts: Sequence[str], generator: Generator) -> torch.Tensor:
    """(B,) whether levels belong to none of these denoisers."""
    rows = generator.expert_rows(sigma)
    own = torch.zeros_like(sigma, dtype=torch.bool)
    for name in experts:
        own |= rows[name]
    return ~own


def _too_narrow(settings: StepSettings, generator: Generator) -> ReelignError:
    return ReelignError(
        f"{generator.model} trains on next to no noise level in sigma_range={settings.sigma_range}"
        + (f" with experts={list(settings.experts)}." if settings.experts else "."),
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
