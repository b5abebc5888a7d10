"""From votes to (chosen, rejected) pairs with a margin: what training eats. Ties and gaps give none and are counted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal

from reelign.errors import ReelignError

if TYPE_CHECKING:
    from reelign.records.votes import Vote
    from reelign.records.workspace import Group

NO_PREFERENCE = "no preference"
TOO_FEW = "fewer than two judged candidates"
NOT_LINKED = "best and worst not linked by comparisons"
ACROSS_GROUPS = "votes across groups"

_VALUE = {"a": 1.0, "b": -1.0, "tie": 0.0}

Margins = dict[str, float]
"""Dimension to margin; positive where the first video of the pair is better."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two videos of one prompt of which one is better."""

    prompt_id: int
    chosen: str
    rejected: str
    """Ids of the videos."""
    margin: float
    """How much better, in (0, 1]: the weighted mean over the dimensions."""
    margins: Margins
    """The margin on each judged dimension, in [-1, 1]; a negative one speaks against the choice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preferences:
    """Pairs in the order of the groups, and how much gave none."""

    pairs: list[Pair]
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason to count: of groups, of pairs without a preference (`pairs="all"`), of votes across groups."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """A judged pair of one group, in the group's order."""

    first: str
    second: str
    margin: float
    margins: Margins


def preferences(
    groups: Iterable[Group],
    votes: Iterable[Vote],
    *,
    weights: Mapping[str, float] | None = None,
    pairs: Literal["best_worst", "all"] = "best_worst",
) -> Preferences:
    """Turn votes into preferences.

    A vote is a margin of 1, -1 or 0 (tie) on its dimension; a pair's overall margin is the weighted mean over the
    dimensions it was judged on.

    Args:
        groups: the candidates of each prompt; votes on videos of no group are not looked at.
        votes: as `majority` gives them, at most one per pair and dimension.
        weights: dimension to weight >= 0; dimensions not named do not count. By default all count the same.
        pairs: 'all': every judged pair whose overall margin is not 0. 'best_worst': one pair per group, the candidate
            with the highest mean overall margin over its judged pairs against the one with the lowest (of equals the
            earlier in the group), when they differ. Its margins are half the difference of the two means: with two
            candidates, that of their one pair. The two need not have been compared with each other, but must be
            linked through others.
    Raises:
        ReelignError: a weight is negative, all are zero, or one names a dimension that nobody judged.
    """
    groups, votes = list(groups), list(votes)
    _check_weights(weights, sorted({vote.dimension for vote in votes}))
    judged, left_out = _by_group(groups, votes, weights)
    found: list[Pair] = []
    for group, own in zip(groups, judged, strict=True):
        if not own:
            left_out[TOO_FEW] += 1
        elif pairs == "all":
            kept = [_pair(group, each.first, each.second, each.margin, each.margins) for each in own if each.margin]
            left_out[NO_PREFERENCE] += len(own) - len(kept)
            found += kept
        else:
            best = _best_against_worst(group, own)
            if isinstance(best, Pair):
                found.append(best)
            else:
                left_out[best] += 1
    return Preferences(pairs=found, left_out={reason: left_out[reason] for reason in sorted(+left_out)})


def _check_weights(weights: Mapping[str, float] | None, dimensions: Sequence[str]) -> None:
    if weights is None:
        return
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights.values()) or not any(weights.values()):
        raise ReelignError(f"weights must be at least 0 and one of them more, got {dict(weights)}", "Correct them.")
    for name in weights:
        if dimensions and name not in dimensions:
            near = get_close_matches(name, dimensions, n=1, cutoff=0)[0]
            raise ReelignError(
                f"there is a weight for dimension {name!r}, which nobody judged",
                f"Did you mean {near!r}? Judged were: {', '.join(dimensions)}.",
            )


def _by_group(
    groups: Sequence[Group], votes: Sequence[Vote], weights: Mapping[str, float] | None
) -> tuple[list[list[_Judged]], Counter[str]]:
    """The judged pairs of each group, in the group's order, and the count of votes that belong to none."""
    place = {video.id: (g, i) for g, group in enumerate(groups) for i, video in enumerate(group.videos)}
    margins: list[dict[tuple[int, int], Margins]] = [{} for _ in groups]
    left_out: Counter[str] = Counter()
    for vote in votes:
        if weights is not None and not weights.get(vote.dimension):
            continue
        a, b = place.get(vote.video_a), place.get(vote.video_b)
        if a is None and b is None:
            continue
        if a is None or b is None or a[0] != b[0]:
            left_out[ACROSS_GROUPS] += 1
            continue
        value = _VALUE[vote.verdict] if a < b else -_VALUE[vote.verdict]
        margins[a[0]].setdefault((min(a[1], b[1]), max(a[1], b[1])), {})[vote.dimension] = value + 0.0
    judged = []
    for group, own in zip(groups, margins, strict=True):
        ids = [video.id for video in group.videos]
        judged.append([_Judged(ids[i], ids[j], _mean(own[i, j], weights), own[i, j]) for i, j in sorted(own)])
    return judged, left_out


def _mean(margins: Margins, weights: Mapping[str, float] | None) -> float:
    """Weighted mean over the dimensions; rounded, so that margins that cancel are exactly 0."""
    own = {dimension: 1.0 if weights is None else weights[dimension] for dimension in margins}
    total = math.fsum(own[dimension] * margin for dimension, margin in margins.items())
    return round(total / math.fsum(own.values()), 9) + 0.0


def _best_against_worst(group: Group, judged: Sequence[_Judged]) -> Pair | str:
    """The group's one pair, or the reason why there is none."""
    seen: dict[str, list[tuple[float, Margins]]] = {}
    for each in judged:
        seen.setdefault(each.first, []).append((each.margin, each.margins))
        seen.setdefault(each.second, []).append((-each.margin, {name: -m for name, m in each.margins.items()}))
    candidates = [video.id for video in group.videos if video.id in seen]
    score = {video: round(math.fsum(margin for margin, _ in seen[video]) / len(seen[video]), 9) for video in candidates}
    best = max(candidates, key=score.__getitem__)  # the first of equals, as with min
    worst = min(candidates, key=score.__getitem__)
    if score[best] == score[worst]:
        return NO_PREFERENCE
    if not _linked(best, worst, judged):
        return NOT_LINKED
    best_on, worst_on = _mean_per_dimension(seen[best]), _mean_per_dimension(seen[worst])
    margins = {name: (best_on[name] - worst_on[name]) / 2 for name in best_on if name in worst_on}
    return _pair(group, best, worst, (score[best] - score[worst]) / 2, margins)


def _linked(start: str, goal: str, judged: Sequence[_Judged]) -> bool:
    """Whether a chain of comparisons leads from one to the other; without it their scores are on different scales."""
    reached = {start}
    for _ in judged:
        reached |= {each.second for each in judged if each.first in reached}
        reached |= {each.first for each in judged if each.second in reached}
    return goal in reached


def _mean_per_dimension(seen: Sequence[tuple[float, Margins]]) -> Margins:
    values: dict[str, list[float]] = {}
    for _, margins in seen:
        for dimension, margin in margins.items():
            values.setdefault(dimension, []).append(margin)
    return {dimension: math.fsum(margins) / len(margins) for dimension, margins in values.items()}


def _pair(group: Group, first: str, second: str, margin: float, margins: Margins) -> Pair:
    sign = 1.0 if margin > 0 else -1.0
    chosen, rejected = (first, second) if margin > 0 else (second, first)
    return Pair(
        prompt_id=group.prompt.id,
        chosen=chosen,
        rejected=rejected,
        margin=abs(margin),
        margins={name: sign * margins[name] + 0.0 for name in sorted(margins)},
    )
