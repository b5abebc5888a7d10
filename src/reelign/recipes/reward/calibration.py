"""What a trained reward's differences mean: a temperature, the tie model's θ, and the threshold under which to say tie.

All are fitted on pairs of prompts that neither trained the reward nor report on it, by dimension.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from reelign.recipes.reward.watch import Scored
from reelign.records.ranking_accuracy import best_threshold

LARGEST = 1e3
"""Of temperature's inverse and of θ: pairs that are all ranked right would have them infinite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Of one dimension, for differences of normalised scores."""

    temperature: float
    """P(a) = σ(d / temperature - log θ), the reward's own doubt: above the true one where it is too sure."""
    theta: float
    """Rao and Kupper's θ, 1 where the calibration pairs hold no tie."""
    tie_threshold: float
    """Differences of at most this size are ties. It has the most verdicts right, ties counted."""
    pairs: int
    """Fitted on so many."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def calibrate(differences: Tensor, labels: Tensor) -> Calibration | None:
    """Fit one dimension; None where no pair is decided.

    Args:
        differences: (N,) of a's normalised score less b's.
        labels: (N,) 1, -1, 0; NaN is passed over.
    """
    there = ~labels.isnan()
    differences, labels = differences[there], labels[there]
    if not (labels != 0).any():
        return None
    scale, theta = fit_rao_kupper(differences, labels)
    return Calibration(
        temperature=1 / scale, theta=theta, tie_threshold=best_threshold(differences, labels), pairs=len(labels)
    )


def fit_rao_kupper(differences: Tensor, labels: Tensor) -> tuple[float, float]:
    """The scale s and θ under which the labels are likeliest, with s·d for the difference of the merits.

    The negative log-likelihood of Rao and Kupper's model (see `bradley_terry_ties_loss`) is convex in s and log θ;
    without ties θ is 1 and the model Bradley and Terry's. Both end at 1000 where the pairs would have them infinite.
    """
    d, said = differences.double().numpy(), labels.numpy()
    ties = said == 0

    def surprise(values: NDArray[np.float64]) -> float:
        scale, log_theta = float(values[0]), float(values[1])
        a = np.logaddexp(0, log_theta - scale * d)
        b = np.logaddexp(0, log_theta + scale * d)
        tie = a + b - (math.log(math.expm1(2 * log_theta)) if log_theta > 0 else 0.0)
        return float(np.where(said > 0, a, np.where(said < 0, b, tie)).mean())

    widest = (1e-6, math.log(LARGEST)) if ties.any() else (0.0, 0.0)
    start = np.array([1.0, min(widest[1], 0.5)])
    found = minimize(surprise, start, method="L-BFGS-B", bounds=[(1 / LARGEST, LARGEST), widest])
    return float(found.x[0]), math.exp(float(found.x[1]))


def differences_of(scored: Scored, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """(N, D) differences of normalised scores, a less b, and labels; float64."""
    rewards = (scored.rewards.double() - mean) / std
    first, second = scored.batch.pairs.T
    return rewards[first] - rewards[second], scored.batch.labels.double()
