"""Losses that train a reward: Bradley–Terry, Bradley–Terry with ties, and regression to scores.

Rewards and labels are of any one shape, (pairs, dimensions) in training; a loss comes back in that shape with 0 where
the label teaches nothing, and `valid_mean` divides by the count of those that do. Labels are 1 where a is preferred,
-1 where b is, 0 for a tie and NaN where nobody said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

A_PREFERRED, B_PREFERRED, TIE, MISSING = 1.0, -1.0, 0.0, math.nan
Margin = Literal["none", "constant", "scores", "scaled"]
MARGINS: tuple[Margin, ...] = ("none", "constant", "scores", "scaled")


@dataclass(frozen=True, kw_only=True, slots=True)
class BradleyTerry:
    """Settings of `bradley_terry_loss`; ties teach it nothing and are left out."""

    name: Literal["bt"] = "bt"

    margin: Margin = "none"
    """How far apart the rewards must be for a pair to count as learnt: `constant`, or `scores`, the difference of the
    two videos' mean scores. `scaled` asks for no distance and weighs the pair by that difference."""
    constant: float = 0.57
    """The constant margin, in units of reward; VideoReward's code has 0.57 (arXiv:2501.13918)."""

    def __post_init__(self) -> None:
        if self.margin not in MARGINS:
            raise ValueError(f"margin must be one of {', '.join(MARGINS)}, got {self.margin!r}")
        if not 0 <= self.constant < math.inf:
            raise ValueError(f"constant must be a margin of 0 or more, got {self.constant}")

    @property
    def needs_scores(self) -> bool:
        return self.margin in ("scores", "scaled")

    def __call__(self, rewards_a: Tensor, rewards_b: Tensor, labels: Tensor, gaps: Tensor | None = None) -> Tensor:
        """`gaps` is how much higher the preferred video scored; only the margins that are made of scores take it."""
        if not self.needs_scores:
            constant = self.constant if self.margin == "constant" else 0.0
            return bradley_terry_loss(rewards_a, rewards_b, labels, margin=constant)
        if gaps is None:
            raise ValueError(f"the margin {self.margin!r} needs the gaps between the videos' scores")
        if self.margin == "scores":
            return bradley_terry_loss(rewards_a, rewards_b, labels, margin=gaps)
        return bradley_terry_loss(rewards_a, rewards_b, labels) * torch.where(decided(labels), gaps, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class BradleyTerryTies:
    """Settings of `bradley_terry_ties_loss`."""

    name: Literal["btt"] = "btt"

    theta: float = 5.0
    """How readily two videos are called equal, > 1: of two with the same reward, (θ - 1) / (θ + 1) of the verdicts are
    ties. VideoReward's 5 (arXiv:2501.13918, eq. 1) expects two thirds."""
    learn_theta: bool = False
    """Let θ follow the judges from `theta` on, one number for each dimension; it stays above 1."""

    def __post_init__(self) -> None:
        if not 1 < self.theta < math.inf:
            raise ValueError(f"theta must be above 1, where nothing is a tie, got {self.theta}")

    @property
    def needs_scores(self) -> bool:
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRegression:
    """Settings of `score_regression_loss`."""

    name: Literal["regression"] = "regression"

    centre: float = 3.0
    """The score that a reward of 0 stands for; the middle of a scale from 1 to 5."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.centre):
            raise ValueError(f"centre must be a score, got {self.centre}")

    @property
    def needs_scores(self) -> bool:
        return True


RankingObjective: TypeAlias = BradleyTerryTies | BradleyTerry | ScoreRegression


def bradley_terry_loss(rewards_a: Tensor, rewards_b: Tensor, labels: Tensor, *, margin: float | Tensor = 0.0) -> Tensor:
    """How surprising each verdict is under Bradley and Terry's model (1952), ties left out.

        -log σ( ±(r_a - r_b) - margin ),   + where a is preferred, - where b is

    Args:
        rewards_a, rewards_b: of the two videos, higher is better.
        labels: 1, -1, 0 or NaN, in the same shape.
        margin: the distance asked for, in units of reward, >= 0; a number or one per verdict.
    Returns:
        The loss of each verdict, >= 0; log 2 where the rewards are equal and the margin is 0; 0 at ties and NaN.
    Raises:
        ValueError: shapes differ, or a label of another value.
    """
    _check(rewards_a, rewards_b, labels)
    counts = decided(labels)
    sign = torch.where(counts, labels, 0.0).to(rewards_a.dtype)
    # A NaN margin of a verdict that is left out must not reach the gradient.
    asked = torch.where(counts, torch.as_tensor(margin, dtype=rewards_a.dtype, device=rewards_a.device), 0.0)
    return torch.where(counts, -F.logsigmoid(sign * (rewards_a - rewards_b) - asked), 0.0)


def bradley_terry_ties_loss(
    rewards_a: Tensor, rewards_b: Tensor, labels: Tensor, *, log_theta: float | Tensor
) -> Tensor:
    """How surprising each verdict is under Rao and Kupper's model with ties (1967).

    With d = r_a - r_b, and θ above 1 (Liu et al. 2025, arXiv:2501.13918, eq. 1, whose printed P(a) has θ on the wrong
    term: as here the three add up to 1):

        P(a)   = σ( d - log θ)
        P(b)   = σ(-d - log θ)
        P(tie) = (θ² - 1) · σ(d - log θ) · σ(-d - log θ)

    Args:
        rewards_a, rewards_b: of the two videos, higher is better.
        labels: 1, -1, 0 or NaN, in the same shape.
        log_theta: > 0; a number, or a tensor that the labels' shape takes, such as (dimensions,), learned or not.
    Returns:
        The loss -log P of each verdict, > 0; 0 at NaN.
    Raises:
        ValueError: shapes differ, a label of another value, or log θ of 0 or less.
    """
    _check(rewards_a, rewards_b, labels)
    log_theta = torch.as_tensor(log_theta, dtype=rewards_a.dtype, device=rewards_a.device)
    if not bool((log_theta > 0).all()):
        raise ValueError(f"log theta must be above 0, got {log_theta.tolist()}")
    difference = rewards_a - rewards_b
    a, b = -F.logsigmoid(difference - log_theta), -F.logsigmoid(-difference - log_theta)
    # log(θ² - 1) = 2 log θ + log(1 - θ⁻²): exact for a θ close to 1 and finite for a huge one.
    tie = a + b - 2 * log_theta - torch.log(-torch.expm1(-2 * log_theta))
    loss = torch.where(labels == A_PREFERRED, a, torch.where(labels == B_PREFERRED, b, tie))
    return torch.where(labels.isnan(), 0.0, loss)


def score_regression_loss(rewards: Tensor, scores: Tensor, *, centre: float = 0.0) -> Tensor:
    """Squared error of each reward: (r - (score - centre))²; 0 where the score is NaN, which nobody gave.

    Args:
        rewards: of single videos, of any shape.
        scores: mean opinion scores in the same shape.
        centre: the score that a reward of 0 stands for.
    Raises:
        ValueError: shapes differ.
    """
    if rewards.shape != scores.shape:
        raise ValueError(f"rewards {tuple(rewards.shape)} and scores {tuple(scores.shape)} differ in shape")
    there = ~scores.isnan()
    target = torch.where(there, scores - centre, 0.0).to(rewards.dtype)
    return torch.where(there, (rewards - target).square(), 0.0)


def decided(labels: Tensor) -> Tensor:
    """Where somebody preferred one side: neither a tie nor missing; bool in the labels' shape."""
    return (labels == A_PREFERRED) | (labels == B_PREFERRED)


def valid_mean(losses: Tensor, valid: Tensor) -> Tensor:
    """The mean of the losses whose label teaches something, a scalar; what is missing does not shrink it.

    Raises:
        ValueError: shapes differ, or no label teaches anything.
    """
    if losses.shape != valid.shape or valid.dtype != torch.bool:
        raise ValueError(f"losses {tuple(losses.shape)} need a bool mask of their shape, got {tuple(valid.shape)}")
    if not bool(valid.any()):
        raise ValueError("no label of the batch teaches this loss anything: all are missing, or ties without a place")
    return torch.where(valid, losses, 0.0).sum() / valid.sum()


def _check(rewards_a: Tensor, rewards_b: Tensor, labels: Tensor) -> None:
    if not rewards_a.shape == rewards_b.shape == labels.shape:
        shapes = [tuple(each.shape) for each in (rewards_a, rewards_b, labels)]
        raise ValueError(f"rewards of a, of b and labels must have one shape, got {shapes}")
    known = decided(labels) | (labels == TIE) | labels.isnan()
    if not labels.is_floating_point() or not bool(known.all()):
        raise ValueError("labels must be float: 1 for a, -1 for b, 0 for a tie, NaN where nobody said")
