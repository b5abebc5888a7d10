"""Errors of pairs: chosen and rejected share a draw, and go through the model together where clips are short."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reelign.generators.base import Conditioning, Generator
from reelign.recipes.settings import StepSettings
from reelign.recipes.steps.draws import take
from reelign.training import Draw, Policy, velocity_errors
from reelign.training.policy import Weights

TOGETHER_BELOW = 4096
"""Tokens of a pair. Above, a single clip keeps the device busy, and two in a batch only take more memory."""


def goes_apart(settings: StepSettings, generator: Generator, shape: Sequence[int]) -> bool:
    """Whether chosen and rejected of latents `shape` (C, F, H, W) go one after the other."""
    if settings.pairing == "auto":
        return 2 * generator.tokens(shape) >= TOGETHER_BELOW
    return settings.pairing == "apart"


def pair_errors(
    policy: Policy,
    pairs: Tensor,
    conditioning: Conditioning,
    draw: Draw,
    *,
    weights: Sequence[Weights] = ("policy", "reference"),
    apart: bool = False,
) -> dict[Weights, Tensor]:
    """Errors {name: (pairs, 2)} of both sides of each pair.

    Args:
        policy: whose errors.
        pairs: (pairs, 2, C, F, H, W), column 0 chosen.
        conditioning, draw: a row per pair.
        weights: which weights to run.
        apart: all chosen videos in one batch and then all rejected ones, rather than in one batch together.
    """
    if apart:
        sides = [velocity_errors(policy, pairs[:, side], conditioning, draw, weights=weights) for side in (0, 1)]
        return {name: torch.stack([each[name] for each in sides], dim=1) for name in weights}
    both = take(conditioning, slice(None), 2)
    found = velocity_errors(policy, pairs.flatten(0, 1), both, draw.repeat(2), weights=weights)
    return {name: error.unflatten(0, (-1, 2)) for name, error in found.items()}
