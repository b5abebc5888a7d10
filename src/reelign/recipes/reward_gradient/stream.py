"""Batches of prompts with explicit seeds, and of real videos where rollouts begin from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reelign.diffusion.seeds import seed_from
from reelign.generators.base import Conditioning
from reelign.training import ShuffledStream


@dataclass(frozen=True)
class RolloutBatch:
    """What one step samples."""

    prompts: list[str]
    conditioning: Conditioning
    """A row for each."""
    seeds: list[int]
    """Of each video's noise."""
    seed: int
    """Of what the whole batch draws: which steps carry gradient, which frames are scored."""
    real: Tensor | None = None
    """(B, C, F, H, W) latents that the rollouts begin from, noised; None begins from noise."""

    @property
    def names(self) -> tuple[str, ...]:
        """What a person would call each video."""
        return tuple(f"{prompt!r} with seed {seed}" for prompt, seed in zip(self.prompts, self.seeds, strict=True))


@dataclass(frozen=True)
class _Batches:
    prompts: Sequence[str]
    real: Tensor | None

    def __call__(self, rows: Tensor, conditioning: Conditioning, seed: int) -> RolloutBatch:
        chosen = rows.tolist()
        return RolloutBatch(
            [self.prompts[row] for row in chosen],
            conditioning,
            [seed_from(seed, place) for place in range(len(chosen))],
            seed,
            None if self.real is None else self.real[rows],
        )


def rollout_stream(
    prompts: Sequence[str], conditioning: Conditioning, *, batch_size: int, seed: int, real: Tensor | None = None
) -> ShuffledStream[RolloutBatch]:
    """Endless shuffled epochs over prompts; batches and seeds are functions of (seed, step) alone.

    Args:
        prompts: one for each row; several rows may have the same.
        conditioning: a row for each.
        batch_size: videos per step.
        seed: of the order and of all noise.
        real: (rows, C, F, H, W) latents, where rollouts begin from videos.
    """
    rows = torch.arange(len(prompts))
    return ShuffledStream(_Batches(list(prompts), real), rows, conditioning, rows, batch_size=batch_size, seed=seed)
