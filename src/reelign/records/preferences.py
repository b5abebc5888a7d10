"""From votes or scores to what training eats: (chosen, rejected) pairs, and single videos with a standing.

Ties and gaps give no preference and are counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import combinations
from typing import TYPE_CHECKING

from reelign.errors import ReelignError
from reelign.records.pair_policies import (
    NO_PREFERENCE,
    JudgedPair,
    Margins,
    PairPolicy,
    Preferences,
    seen_margins,
    select,
)

if TYPE_CHECKING:
    from reelign.records.votes import Vote
    from reelign.records.workspace import Group

ACROSS_GROUPS = "votes across groups"


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How one candidate stands among its group."""

    prompt_id: int
    video: str
    score: float
    """Its mean margin over its judged pairs, in [-1, 1]: 1 beats all others on every dimension, 0 is indifferent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """A video that people want or do not want."""

    prompt_id: int
    video: str
    desirable: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Labels:
    """Pointwise labels in the order of the groups, and how much gave none."""

    labels: list[Label]
    left_out: dict[str, int] = field(default_factory=dict)


def preferences(
    groups: Iterable[Group],
    votes: Iterable[Vote],
    *,
    weights: Mapping[str, float] | None = None,
    pairs: PairPolicy = "best_worst",
    min_margin: float = 0.0,
) -> Preferences:
    """Turn votes into preferences.

    A vote is a margin of 1, -1 or 0 (tie) on its dimension, or in between where judges said how much better one is; a
    pair's overall margin is the weighted mean over the
    dimensions it was judged on.

    Args:
        groups: the candidates of each prompt; votes on videos of no group are not looked at.
        votes: as `majority` gives them, at most one per pair and dimension.
        weights: dimension to weight >= 0; dimensions not named do not count. By default all count the same.
        pairs: which pairs of a group (`PairPolicy`). The best candidate is the one with the highest mean overall
            margin over its judged pairs, the worst the one with the lowest (of equals the earlier in the group); their
            margins are half the difference of the two means: with two candidates, that of their one pair. The two
            need not have been compared with each other, but must be linked through others.
        min_margin: pairs with a smaller overall margin are left out.
    Raises:
        ReelignError: a weight is negative, all are zero, or one names a dimension that nobody judged.
    """
    groups, votes = list(groups), list(votes)
    judged, left_out = _judged(groups, votes, weights)
    return select(groups, judged, pairs, min_margin=min_margin, left_out=left_out)


def scored_preferences(
    groups: Iterable[Group],
    scores: Mapping[str, Mapping[str, float]],
    *,
    weights: Mapping[str, float] | None = None,
    pairs: PairPolicy = "best_worst",
    tie_band: float = 0.0,
    min_margin: float = 0.0,
) -> Preferences:
    """Turn scores of a reward into preferences; a pair's margin on a dimension is the difference of its scores.

    Args:
        groups: the candidates of each prompt; those without a score are not looked at.
        scores: video id to {dimension: score, higher is better}, of one scale per dimension.
        weights, pairs, min_margin: as in `preferences`; the margins are in the scores' unit.
        tie_band: differences of at most this much are ties. Equal scores never make a pair.
    """
    groups = list(groups)
    _check_weights(weights, sorted({dimension for own in scores.values() for dimension in own}))
    judged = [_scored(group, scores, weights, tie_band) for group in groups]
    if pairs == "best_worst":
        # Every two were compared: the pair of the extremes stands for itself, with its own difference.
        judged = [[max(own, key=lambda each: abs(each.margin))] if own else [] for own in judged]
        pairs = "all"
    return select(groups, judged, pairs, min_margin=min_margin)


def standings(
    groups: Iterable[Group], votes: Iterable[Vote], *, weights: Mapping[str, float] | None = None
) -> list[Standing]:
    """Where every judged candidate stands in its group, in the order of the groups: rewards out of votes."""
    groups = list(groups)
    judged, _ = _judged(groups, list(votes), weights)
    found = []
    for group, own in zip(groups, judged, strict=True):
        for video, seen in sorted(seen_margins(own).items(), key=lambda item: _place(group, item[0])):
            score = round(math.fsum(margin for margin, _ in seen) / len(seen), 9) + 0.0
            found.append(Standing(prompt_id=group.prompt.id, video=video, score=score))
    return found


def labels(found: Iterable[Standing], *, min_margin: float = 0.0) -> Labels:
    """Pointwise labels for KTO: what stands above 0 in its group is desirable, what stands below undesirable.

    Args:
        found: from `standings`.
        min_margin: candidates nearer to 0 than this are left out, as are those at 0.
    """
    made, left_out = [], 0
    for each in found:
        if each.score == 0 or abs(each.score) < min_margin:
            left_out += 1
        else:
            made.append(Label(prompt_id=each.prompt_id, video=each.video, desirable=each.score > 0))
    return Labels(labels=made, left_out={NO_PREFERENCE: left_out} if left_out else {})


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


def _judged(
    groups: Sequence[Group], votes: Sequence[Vote], weights: Mapping[str, float] | None
) -> tuple[list[list[JudgedPair]], Counter[str]]:
    """The judged pairs of each group, in the group's order, and the count of votes that belong to none."""
    _check_weights(weights, sorted({vote.dimension for vote in votes}))
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
        value = vote.margin if a < b else -vote.margin
        margins[a[0]].setdefault((min(a[1], b[1]), max(a[1], b[1])), {})[vote.dimension] = value + 0.0
    judged = []
    for group, own in zip(groups, margins, strict=True):
        ids = [video.id for video in group.videos]
        judged.append([JudgedPair(ids[i], ids[j], _mean(own[i, j], weights), own[i, j]) for i, j in sorted(own)])
    return judged, left_out


def _scored(
    group: Group, scores: Mapping[str, Mapping[str, float]], weights: Mapping[str, float] | None, tie_band: float
) -> list[JudgedPair]:
    judged = []
    for first, second in combinations([video.id for video in group.videos if video.id in scores], 2):
        one, two = scores[first], scores[second]
        names = [name for name in one if name in two and (weights is None or weights.get(name))]
        difference = {name: one[name] - two[name] for name in names}
        if not all(map(math.isfinite, difference.values())):
            raise ReelignError(
                f"a score of {first} or {second} is not finite", "Leave out what the reward could not judge."
            )
        if difference:
            margins = {name: value if abs(value) > tie_band else 0.0 for name, value in difference.items()}
            judged.append(JudgedPair(first, second, _mean(margins, weights), margins))
    return judged


def _mean(margins: Margins, weights: Mapping[str, float] | None) -> float:
    """Weighted mean over the dimensions; rounded, so that margins that cancel are exactly 0."""
    own = {dimension: 1.0 if weights is None else weights[dimension] for dimension in margins}
    total = math.fsum(own[dimension] * margin for dimension, margin in margins.items())
    return round(total / math.fsum(own.values()), 9) + 0.0


def _place(group: Group, video: str) -> int:
    return next(index for index, each in enumerate(group.videos) if each.id == video)
