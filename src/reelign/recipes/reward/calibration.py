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

from reelign.recipes.reward.watch import Scored

Floats = NDArray[np.float64]
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
    """Differences of at most this size are ties; negative: nothing is. It has the most verdicts right, ties counted."""
    pairs: int
    """Fitted on so many."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def calibrate(differences: Floats, labels: Floats) -> Calibration | None:
    """Fit one dimension; None where no pair is decided.

    Args:
        differences: (N,) of a's normalised score less b's.
        labels: (N,) 1, -1, 0; NaN is passed over.
    """
    there = ~np.isnan(labels)
    differences, labels = differences[there], labels[there]
    if not (labels != 0).any():
        return None
    scale, theta = fit_rao_kupper(differences, labels)
    return Calibration(
        temperature=1 / scale, theta=theta, tie_threshold=best_threshold(differences, labels), pairs=len(labels)
    )


def fit_rao_kupper(differences: Floats, labels: Floats) -> tuple[float, float]:
    """The scale s and θ under which the labels are likeliest, with s·d for the difference of the merits.

    The negative log-likelihood of Rao and Kupper's model (see `bradley_terry_ties_loss`) is convex in s and log θ;
    without ties θ is 1 and the model Bradley and Terry's. Both end at 1000 where the pairs would have them infinite.
    """
    ties = labels == 0

    def surprise(values: Floats) -> float:
        scale, log_theta = float(values[0]), float(values[1])
        a = np.logaddexp(0, log_theta - scale * differences)
        b = np.logaddexp(0, log_theta + scale * differences)
        tie = a + b - (math.log(math.expm1(2 * log_theta)) if log_theta > 0 else 0.0)
        return float(np.where(labels > 0, a, np.where(labels < 0, b, tie)).mean())

    widest = (1e-6, math.log(LARGEST)) if ties.any() else (0.0, 0.0)
    start = np.array([1.0, min(widest[1], 0.5)])
    found = minimize(surprise, start, method="L-BFGS-B", bounds=[(1 / LARGEST, LARGEST), widest])
    return float(found.x[0]), math.exp(float(found.x[1]))


def best_threshold(differences: Floats, labels: Floats) -> float:
    """The threshold on |d| with the most verdicts right, ties counted (Deutsch et al. 2023, arXiv:2305.14324).

    Candidates are "nothing is a tie" and the middles between neighbouring |d|, so that equal differences fall on one
    side; of several with as many right the smallest.
    """
    sizes = np.unique(np.abs(differences))
    middles = [*(sizes[:-1] + sizes[1:]) / 2, sizes[-1]]
    found = max([-1.0, *middles], key=lambda each: (accuracy_with_ties(differences, labels, each), -each))
    return float(found)


def accuracy_with_ties(differences: Floats, labels: Floats, threshold: float) -> float:
    """Share of verdicts that are the labels, where differences of at most the threshold say tie."""
    said = np.where(np.abs(differences) <= threshold, 0.0, np.sign(differences))
    # An exact difference of 0 that is no tie has no side; half of it is right.
    undecided = (said == 0) & (np.abs(differences) > threshold)
    return float(np.where(undecided, 0.5 * (labels != 0), said == labels).mean())


def accuracy_without_ties(differences: Floats, labels: Floats) -> float:
    """Share of the decided pairs that are ordered as their label; equal scores count half; NaN without any."""
    decided = np.abs(labels) == 1
    if not decided.any():
        return math.nan
    return float((0.5 + 0.5 * np.sign(differences[decided] * labels[decided])).mean())


def differences_of(scored: Scored, mean: Floats, std: Floats) -> tuple[Floats, Floats]:
    """(N, D) differences of normalised scores, a less b, and labels."""
    rewards = (scored.rewards.double().numpy() - mean) / std
    pairs = scored.batch.pairs.numpy()
    return rewards[pairs[:, 0]] - rewards[pairs[:, 1]], scored.batch.labels.double().numpy()
