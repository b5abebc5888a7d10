"""From the scores of a group's candidates to what is learnt from them: best against worst, by one dimension or several.

OnlineVPO (arXiv:2412.15159) takes the candidates with the highest and the lowest reward. It is silent on equal ones;
here a group in which none is preferred gives nothing, and says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import torch
from torch import Tensor

from reelign.errors import ReelignError

Reason = Literal["equal", "conflict", "unscored"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """What becomes a preference."""

    weights: Mapping[str, float] | None = None
    """Of the judge's dimensions; one that is not named counts nothing, one below 0 is better when lower. None is
    `overall` where the judge gives it, and else the mean of all. {MQ: 1} listens to motion alone."""
    feedback: Literal["sum", "agreement"] = "sum"
    """`agreement` takes only pairs on which all dimensions that count say the same, the widest apart in the sum."""
    top: int = 1
    """So many of the best against so many of the worst: the best and the worst, then the second of each."""
    min_margin: float = 0.0
    """In units of the weighted sum; closer ones are as good as equal."""

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ValueError(f"top must be at least 1, got {self.top}")
        if not self.min_margin >= 0:
            raise ValueError(f"min_margin must be at least 0, got {self.min_margin}")
        if self.weights is not None and not any(self.weights.values()):
            raise ValueError(f"weights must hold a number other than 0, got {dict(self.weights)}")

    def of(self, dimensions: tuple[str, ...]) -> dict[str, float]:
        """The weight of each dimension that counts.

        Raises:
            ReelignError: a name that the judge does not give.
        """
        if self.weights is None:
            counted = ("overall",) if "overall" in dimensions else dimensions
            return dict.fromkeys(counted, 1 / len(counted))
        unknown = [name for name in self.weights if name not in dimensions]
        if unknown:
            raise ReelignError(
                f"The judge has no dimension {unknown[0]!r} for selection.weights.",
                f"It has {', '.join(dimensions)}.",
            )
        return {name: weight for name, weight in self.weights.items() if weight}


@dataclass(frozen=True)
class Selected:
    """What was found in one group."""

    pairs: list[tuple[int, int]]
    """(chosen, rejected) places in the group, the widest apart first; every candidate stands in one at most."""
    reason: Reason | None
    """Why there is no pair: all equal, dimensions that contradict each other, or fewer than two scored."""


def totals(scores: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """(groups, candidates) weighted sum; NaN where a dimension that counts could not be scored."""
    return torch.stack([weight * scores[name].double() for name, weight in weights.items()]).sum(dim=0)


def select(
    scores: Mapping[str, Tensor], settings: Selection, weights: Mapping[str, float], ties: Mapping[str, float]
) -> list[Selected]:
    """The pairs of every group.

    Args:
        scores: {dimension: (groups, candidates)}, higher is better; NaN could not be scored, and its candidate is left
            out.
        settings: how many pairs and how they must differ.
        weights: of the dimensions that count (`Selection.of`).
        ties: scores of a dimension no further apart are equal.
    """
    total = totals(scores, weights)
    band = max(settings.min_margin, sum(abs(weight) * ties.get(name, 0.0) for name, weight in weights.items()))
    signed = {name: weight * scores[name].double() for name, weight in weights.items()}
    bands = {name: abs(weight) * ties.get(name, 0.0) for name, weight in weights.items()}
    found = []
    for group, row in enumerate(total):
        apart = [pair for pair in permutations(range(len(row)), 2) if row[pair[0]] - row[pair[1]] > band]
        agreed = apart
        if settings.feedback == "agreement":
            agreed = [
                (a, b)
                for a, b in apart
                if all(float(signed[name][group, a] - signed[name][group, b]) > bands[name] for name in signed)
            ]
        widest = sorted(agreed, key=lambda pair: float(row[pair[1]] - row[pair[0]]))
        reason: Reason | None = None
        if not agreed:
            unscored = int(row.isfinite().sum()) < 2
            reason = "unscored" if unscored else "conflict" if apart else "equal"
        found.append(Selected(_disjoint(widest, settings.top), reason))
    return found


def _disjoint(pairs: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """The first pairs that share no candidate."""
    kept: list[tuple[int, int]] = []
    for pair in pairs:
        if len(kept) < count and not any(place in other for other in kept for place in pair):
            kept.append(pair)
    return kept
