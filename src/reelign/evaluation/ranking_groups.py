"""Where a score puts the video that people chose as the best of N: mean reciprocal rank and Recall@k.

Zhang et al. 2024, OnlineVPO (arXiv:2412.15159), Table 2, with N = 8.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reelign.errors import ReelignError

RECALL_AT = (1, 2, 4)


def rank_of_best(scores: Tensor, best: int) -> float:
    """The rank of candidate `best` among (candidates,) scores: 1 is the highest.

    Of equal scores the best has the last place, so that a scorer which tells nothing apart does not look good.

    Returns:
        NaN where any candidate has no score: what is missing might have stood anywhere.
    Raises:
        ReelignError: fewer than two candidates, or a `best` that is none of them.
    """
    if scores.ndim != 1 or len(scores) < 2 or not 0 <= best < len(scores):
        raise ReelignError(
            f"Candidate {best} of scores {tuple(scores.shape)} has no rank.",
            "Give (candidates,) scores of at least two, and the place of the best among them.",
        )
    if scores.isnan().any():
        return float("nan")
    return float((scores >= scores[best]).sum())


def reciprocal_rank(ranks: Tensor) -> Tensor:
    """1 / rank of each choice, (choices,); its mean is the MRR. NaN stays NaN."""
    return 1 / ranks.double()


def recall_at(ranks: Tensor, k: int) -> Tensor:
    """Whether each choice is among the k highest scores, (choices,) of 1 or 0; NaN stays NaN."""
    return (ranks <= k).double().masked_fill(ranks.isnan(), float("nan"))


def chance_reciprocal_rank(sizes: Sequence[int]) -> float:
    """MRR of a random order: the mean of (1 + 1/2 + ... + 1/N) / N over the groups' sizes; 0.3397 for N = 8."""
    return _mean([sum(1 / rank for rank in range(1, size + 1)) / size for size in sizes])


def chance_recall(sizes: Sequence[int], k: int) -> float:
    """Recall@k of a random order: the mean of k / N over the groups' sizes."""
    return _mean([min(1.0, k / size) for size in sizes])


def _mean(values: Sequence[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).mean())
