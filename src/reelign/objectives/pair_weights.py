"""How much a pair counts, from how common its videos' scores are."""

from __future__ import annotations

import torch
from torch import Tensor


def histogram_weights(scores: Tensor, *, alpha: float, bins: int = 20) -> Tensor:
    """VideoDPO's re-weighting of pairs: those of rare scores count for more.

    Liu et al. 2024 (arXiv:2412.14167): with p the product of the histogram's probabilities of the chosen and
    the rejected video's score, a pair weighs (b/p)^α. Here b is such that the mean weight is 1, so that the learning
    rate keeps its meaning; their code fixes b = 0.72, its script puts the product of the scores themselves for p, and
    its shipped configuration has α = 0.

    Args:
        scores: (pairs, 2) column 0 chosen, column 1 rejected, of one scale over the whole data set.
        alpha: >= 0; 0 weighs all alike, 1 undoes the histogram.
        bins: of equal width, from the lowest score to the highest.
    Returns:
        (pairs,) weights of mean 1.
    """
    if scores.ndim != 2 or scores.shape[1] != 2 or not len(scores):
        raise ValueError(f"scores must be (pairs, 2), got {tuple(scores.shape)}")
    if not alpha >= 0 or bins < 1:
        raise ValueError(f"alpha must be at least 0 and bins at least 1, got {alpha} and {bins}")
    low, high = scores.min(), scores.max()
    width = (high - low).clamp(min=torch.finfo(scores.dtype).tiny)
    place = ((scores - low) / width * bins).long().clamp(max=bins - 1)
    probability = torch.bincount(place.flatten(), minlength=bins).to(scores.dtype) / scores.numel()
    weights = probability[place].prod(dim=1).pow(-alpha)
    return weights / weights.mean()
