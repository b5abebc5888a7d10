"""Correlation of a score with people's ratings of single videos."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from reelign.errors import ReelignError


@dataclass(frozen=True, kw_only=True, slots=True)
class Correlation:
    """Over the videos that have both a score and a rating; NaN where either says the same of all."""

    videos: int
    spearman: float
    """Of the ranks, equal ones sharing their mean."""
    kendall: float
    """tau-b, which makes up for ties on both sides."""


def correlation(scores: Tensor, ratings: Tensor) -> Correlation:
    """Spearman's rho and Kendall's tau-b of (videos,) scores and ratings; videos with a NaN are left out.

    Raises:
        ReelignError: the two differ in shape.
    """
    from scipy.stats import kendalltau, spearmanr

    if scores.ndim != 1 or scores.shape != ratings.shape:
        raise ReelignError(
            f"Scores and ratings must have one shape (videos,), got {tuple(scores.shape)} and {tuple(ratings.shape)}.",
            "Give one rating for each score.",
        )
    known = scores.isfinite() & ratings.isfinite()
    one, other = scores[known].double().numpy(), ratings[known].double().numpy()
    if len(set(one.tolist())) < 2 or len(set(other.tolist())) < 2:
        return Correlation(videos=len(one), spearman=math.nan, kendall=math.nan)
    rho, tau = spearmanr(one, other).statistic, kendalltau(one, other).statistic
    return Correlation(videos=len(one), spearman=float(rho), kendall=float(tau))
