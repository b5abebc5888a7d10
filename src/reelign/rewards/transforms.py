"""From the scores of several rewards to one number: normalised, capped, weighted. NaN marks a sample that failed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from torch import Tensor

from reelign.errors import ReelignError


def z_normalised(scores: Tensor, *, mean: float, std: float) -> Tensor:
    """(scores - mean) / std with constants that are given, such as those of the reward's training set.

    Args:
        scores: any shape.
        mean, std: of the scores' population; std > 0.
    Raises:
        ReelignError: a spread that is not above 0.
    """
    if not 0 < std < float("inf"):
        raise ReelignError(f"A reward cannot be divided by a spread of {std}.", "Give [mean, std] with a std above 0.")
    return (scores - mean) / std


def group_normalised(scores: Tensor, groups: Sequence[Hashable], *, scale: bool = True, eps: float = 1e-6) -> Tensor:
    """Each score less the mean of its group, over the group's standard deviation: the advantage of GRPO.

    Shao et al. 2024 (arXiv:2402.03300), sec. 4.1.2: (r - mean(r)) / std(r); the std is the population's, and `eps` is
    added to it. Equal scores give 0.

    Args:
        scores: (B,), NaN where a sample failed: it stays NaN and counts in no mean.
        groups: B keys, such as the prompts.
        scale: False leaves the difference from the mean as it is (arXiv:2503.20783).
    Returns:
        (B,), NaN also where fewer than two of a group have scores: there is nothing to compare with.
    Raises:
        ReelignError: as many keys as scores are not there.
    """
    if scores.ndim != 1 or len(groups) != len(scores):
        raise ReelignError(
            f"{len(groups)} groups were given for scores of shape {tuple(scores.shape)}.", "Give a group per score."
        )
    codes = {key: code for code, key in enumerate(dict.fromkeys(groups))}
    group = torch.tensor([codes[key] for key in groups], device=scores.device)
    there = ~scores.isnan()
    known = scores.where(there, 0)
    count = _sums(there.to(scores.dtype), group, len(codes))
    centred = scores - (_sums(known, group, len(codes)) / count)[group]
    compared = centred.where(count[group] > 1, float("nan"))
    if not scale:
        return compared
    variance = _sums(centred.where(there, 0).square(), group, len(codes)) / count
    return compared / (variance.sqrt()[group] + eps)


def _sums(values: Tensor, group: Tensor, count: int) -> Tensor:
    return values.new_zeros(count).index_add(0, group, values)


def capped(scores: Tensor, cap: float | None) -> Tensor:
    """No more than `cap`: beyond it nothing is gained and no gradient flows, as T2V-Turbo caps ImageReward at 2."""
    return scores if cap is None else scores.clamp(max=cap)


def weighted_sum(scores: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Σ weight · score over the dimensions with a weight.

    Args:
        scores: (B,) per dimension.
        weights: of the dimensions that count; negative where less is better. One of 0 leaves its dimension out, and a
            NaN in it does no harm.
    Returns:
        (B,); NaN where any dimension that counts is NaN: a sum of the rest would not compare with other samples' sums.
    Raises:
        ReelignError: a weight of an unknown dimension, one that is not finite, or none but 0.
    """
    unknown = [name for name in weights if name not in scores]
    if unknown:
        raise ReelignError(
            f"There is a weight for {unknown[0]!r} and no such score.", f"There are {', '.join(scores)}."
        )
    counting = {name: weight for name, weight in weights.items() if weight != 0}
    if not counting or not all(-float("inf") < weight < float("inf") for weight in counting.values()):
        raise ReelignError(f"The weights {dict(weights)} add up to nothing.", "Give finite weights, not all 0.")
    return torch.stack([weight * scores[name] for name, weight in counting.items()]).sum(dim=0)
