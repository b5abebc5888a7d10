"""Which pair of a group would tell most if one more person judged it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PRIOR = 1.0
"""Precision of a normal prior on each candidate's strength, in log-odds."""
STEPS = 8


def information(count: int, outcomes: Iterable[tuple[int, int, float]]) -> Floats:
    """What one more judgement of each pair of candidates would tell.

    Bradley–Terry strengths s with a normal prior, and their covariance C after the outcomes so far (Laplace). A
    judgement of i and j has the Fisher information p·(1 - p), p = sigmoid(s_i - s_j), about a difference of which the
    variance is v = C_ii + C_jj - 2·C_ij; it adds ½·log(1 + p·(1 - p)·v) nats to what is known (D-optimal design).

    Args:
        count: how many candidates.
        outcomes: (i, j, y) of each judgement, y in [0, 1] and 1 where i was better than j.
    Returns:
        (count, count), symmetric, 0 on the diagonal; larger tells more.
    """
    rows = list(outcomes)
    first = np.array([row[0] for row in rows], dtype=np.int64)
    second = np.array([row[1] for row in rows], dtype=np.int64)
    won = np.array([row[2] for row in rows], dtype=np.float64)
    contrast = np.eye(count)[first] - np.eye(count)[second]
    strengths = np.zeros(count)
    precision = PRIOR * np.eye(count)
    for _ in range(STEPS if rows else 0):
        chance = _sigmoid(contrast @ strengths)
        precision = PRIOR * np.eye(count) + (contrast.T * (chance * (1 - chance))) @ contrast
        strengths = strengths + np.linalg.solve(precision, contrast.T @ (won - chance) - PRIOR * strengths)
    covariance = np.linalg.inv(precision)
    spread = np.diag(covariance)
    variance = spread[:, None] + spread[None, :] - 2 * covariance
    chance = _sigmoid(strengths[:, None] - strengths[None, :])
    found: Floats = 0.5 * np.log1p(chance * (1 - chance) * variance)
    return found


def _sigmoid(values: Floats) -> Floats:
    found: Floats = 1 / (1 + np.exp(-values))
    return found
