"""Looks at held-out pairs at every noise level, while a latent reward trains and when it has."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reelign.objectives.ranking import RankingObjective
from reelign.recipes.latent_reward.batch import LatentBatch
from reelign.recipes.latent_reward.data import LatentPairs, quarter_draw
from reelign.recipes.latent_reward.policy import LatentRewardPolicy, forward
from reelign.recipes.reward.step import agreement
from reelign.recipes.reward.watch import ranking_metrics
from reelign.training.latent_reward import LatentReward
from reelign.training.monitors import QUARTERS


@dataclass(frozen=True, kw_only=True)
class AtLevels:
    """Raw rewards of all pairs, at one draw in each quarter of the training levels."""

    batches: list[LatentBatch]
    """A quarter each, from the cleanest to the noisiest."""
    rewards: list[Tensor]
    """(2P, D) on the CPU, likewise."""


@torch.no_grad()
def at_levels(model: LatentReward, pairs: LatentPairs, *, batch_size: int, seed: int) -> AtLevels:
    """Score every pair once in every quarter; the draws are the same every time."""
    rows = torch.arange(len(pairs))
    shape = torch.Size((len(pairs), *pairs.latents.shape[1:]))
    batches, rewards = [], []
    for quarter in range(QUARTERS):
        draw = quarter_draw(shape, quarter, model.generator, seed)
        batch = pairs.batch(rows, draw)
        starts = range(0, len(pairs), batch_size)
        rewards.append(torch.cat([forward(model, batch.rows(start, start + batch_size)).cpu() for start in starts]))
        batches.append(batch)
    return AtLevels(batches=batches, rewards=rewards)


def levels_look(
    pairs: LatentPairs, objective: RankingObjective, *, batch_size: int, seed: int
) -> Callable[[LatentRewardPolicy], dict[str, float]]:
    """A look for `HeldOutRanking`: its metrics over all quarters, and `held_out/accuracy_q1` … `q4` of each, from the
    cleanest to the noisiest; ½ knows nothing."""

    def look(policy: LatentRewardPolicy) -> dict[str, float]:
        found = at_levels(policy.model, pairs, batch_size=batch_size, seed=seed)
        own = [
            ranking_metrics(policy, objective, rewards, batch, pairs.data.dimensions)
            for rewards, batch in zip(found.rewards, found.batches, strict=True)
        ]
        metrics = {name: _mean([each[name] for each in own]) for name in own[0]}
        metrics |= {f"held_out/accuracy_q{place + 1}": each["held_out/accuracy"] for place, each in enumerate(own)}
        return metrics

    return look


def accuracy_by_level(found: AtLevels, dimensions: tuple[str, ...]) -> dict[str, list[float]]:
    """Dimension -> share of decided pairs ordered as their label in each quarter, cleanest first; NaN without any."""
    right: list[Any] = [
        agreement(rewards, batch)  # type: ignore[arg-type]
        for rewards, batch in zip(found.rewards, found.batches, strict=True)
    ]
    return {name: [float(each[:, column].nanmean()) for each in right] for column, name in enumerate(dimensions)}


def _mean(values: list[float]) -> float:
    there = [value for value in values if not math.isnan(value)]
    return sum(there) / len(there) if there else math.nan
