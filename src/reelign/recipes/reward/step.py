"""One optimiser step of a reward: both sides of all pairs in one forward, every video once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from reelign.objectives.ranking import (
    BradleyTerry,
    BradleyTerryTies,
    RankingObjective,
    ScoreRegression,
    bradley_terry_ties_loss,
    decided,
    score_regression_loss,
)
from reelign.recipes.reward.data import taught
from reelign.recipes.reward.policy import RewardPolicy
from reelign.recipes.reward.stream import RewardBatch
from reelign.rewards.videoreward_model import VideoRewardModel


class RewardStep:
    """The gradient of the mean loss over all labels of a batch, in micro-batches of pairs.

    Labels are counted over the whole batch before the first forward, so that micro-batches with more and with fewer
    missing labels add up to the gradient of the batch.

    Args:
        objective: what is minimised.
        micro_batch_size: pairs in a forward.
        forward: `forward(model, batch) -> (U, D)` raw rewards; by default those of decoded clips. A batch of another
            kind has the pairs, labels, gaps, scores and rows of a `RewardBatch`.
    """

    def __init__(
        self,
        objective: RankingObjective,
        *,
        micro_batch_size: int,
        forward: Callable[[Any, Any], Tensor] | None = None,
    ) -> None:
        self.objective = objective
        self.micro_batch_size = micro_batch_size
        self.forward = forward or forward_of_clips

    def accumulate_gradients(self, policy: Any, batch: RewardBatch) -> dict[str, float]:
        """Add the gradient to the parameters' `.grad` and return `loss` and the accuracy on the batch before the step.

        Args:
            policy: a `RewardPolicy`.
            batch: pairs of which at least one label teaches the objective something.
        """
        count = self._count(batch)
        losses, right = [], []
        for part in self._parts(batch):
            rewards = self.forward(policy.model, part)
            loss = losses_of(policy, self.objective, rewards, part)[1].sum() / count
            loss.backward()
            losses.append(loss.detach())
            right.append(agreement(rewards.detach(), part))
        right_of = torch.cat(right)
        metrics = {"loss": float(torch.stack(losses).sum()), "accuracy": _mean(right_of)}
        for column, name in enumerate(policy.model.settings.dimensions):
            metrics[f"accuracy/{name}"] = _mean(right_of[:, column])
            if policy.ties is not None and policy.ties.raw.requires_grad:
                metrics[f"theta/{name}"] = float(policy.ties()[column].detach().exp())
        return metrics

    def _parts(self, batch: RewardBatch) -> list[RewardBatch]:
        starts = range(0, len(batch.pairs), self.micro_batch_size)
        parts = [batch.rows(start, start + self.micro_batch_size) for start in starts]
        if isinstance(self.objective, ScoreRegression):
            return _scored_once(batch, parts, self.micro_batch_size)
        return parts

    def _count(self, batch: RewardBatch) -> int:
        told = (
            ~batch.scores.isnan()
            if isinstance(self.objective, ScoreRegression)
            else taught(self.objective, batch.labels)
        )
        return max(1, int(told.sum()))


def forward_of_clips(model: VideoRewardModel, batch: RewardBatch) -> Tensor:
    """(U, D) float32 raw rewards of the batch's videos, in one call of the model."""
    rewards: Tensor = model(model.preparer.batch(batch.seen, batch.prompts).to(model.device))
    return rewards


def losses_of(
    policy: RewardPolicy, objective: RankingObjective, rewards: Tensor, batch: RewardBatch
) -> tuple[Tensor, Tensor]:
    """Which labels teach (bool), and the loss of each, 0 elsewhere: of pairs (P, D), of regression (U, D).

    Args:
        policy: for θ.
        objective: which loss.
        rewards: (U, D) of the batch's videos.
        batch: labels and scores.
    """
    device = rewards.device
    if isinstance(objective, ScoreRegression):
        scores = batch.scores.to(device)
        return ~scores.isnan(), score_regression_loss(rewards, scores, centre=objective.centre)
    labels, gaps = batch.labels.to(device), batch.gaps.to(device)
    a, b = rewards[batch.pairs[:, 0].to(device)], rewards[batch.pairs[:, 1].to(device)]
    if isinstance(objective, BradleyTerry):
        return decided(labels), objective(a, b, labels, gaps if objective.needs_scores else None)
    assert isinstance(objective, BradleyTerryTies)
    assert policy.ties is not None
    return ~labels.isnan(), bradley_terry_ties_loss(a, b, labels, log_theta=policy.ties())


def agreement(rewards: Tensor, batch: RewardBatch) -> Tensor:
    """(P, D) on the CPU: 1 where the rewards order a decided pair as its label, ½ where they are equal, NaN at ties."""
    rewards = rewards.cpu()
    difference = rewards[batch.pairs[:, 0]] - rewards[batch.pairs[:, 1]]
    signs = (batch.labels * difference).sign()
    return torch.where(decided(batch.labels), 0.5 + 0.5 * signs, torch.nan)


def _scored_once(batch: RewardBatch, parts: list[RewardBatch], size: int) -> list[RewardBatch]:
    """For regression, whose loss is of videos: a video of several micro-batches has its score in the first alone."""
    found, seen = [], set[int]()
    for number, part in enumerate(parts):
        own = batch.pairs[number * size : (number + 1) * size].unique().tolist()
        known = torch.tensor([each in seen for each in own])
        seen.update(own)
        scores = torch.where(known[:, None], torch.nan, part.scores)
        found.append(replace(part, scores=scores))
    return found


def _mean(values: Tensor) -> float:
    return float(values.nanmean())
