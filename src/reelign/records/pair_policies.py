"""Which pairs of a group train: from judged pairs of candidates to (chosen, rejected)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from reelign.records.workspace import Group

PairPolicy = Literal["best_worst", "all", "agreed", "per_dimension"]
"""best_worst: one pair a group, its best candidate against its worst. all: every pair with a preference. agreed: of
those, the pairs in which the chosen video is better on every judged dimension. per_dimension: the pairs that each
dimension decides by itself, so that a pair may come several times, even in both orders."""

NO_PREFERENCE = "no preference"
TOO_FEW = "fewer than two judged candidates"
NOT_LINKED = "best and worst not linked by comparisons"
DISAGREEMENT = "dimensions that disagree"
SMALL_MARGIN = "margin below the threshold"
NO_REAL_VIDEO = "no real video"

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
    """How much better, > 0: the weighted mean over the dimensions; from votes at most 1."""
    margins: Margins
    """The margin on each judged dimension; a negative one speaks against the choice. From votes in [-1, 1]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preferences:
    """Pairs in the order of the groups, and how much gave none."""

    pairs: list[Pair]
    left_out: dict[str, int] = field(default_factory=dict)
    """Reason to count: of groups, of pairs (every policy but `best_worst`), of votes across groups."""


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """Two candidates of one group, in the group's order."""

    first: str
    second: str
    margin: float
    margins: Margins


def select(
    groups: Sequence[Group],
    judged: Sequence[Sequence[JudgedPair]],
    policy: PairPolicy,
    *,
    min_margin: float = 0.0,
    left_out: Counter[str] | None = None,
) -> Preferences:
    """The pairs that a policy takes from each group's judged pairs.

    Args:
        groups, judged: the candidates of each prompt and what was judged of them.
        policy: `PairPolicy`. Ties give no pair under any.
        min_margin: pairs with a smaller margin are left out; clear pairs alone train with less noise in the labels.
        left_out: counts to add to.
    """
    left_out = Counter() if left_out is None else left_out
    found: list[Pair] = []
    for group, own in zip(groups, judged, strict=True):
        if not own:
            left_out[TOO_FEW] += 1
        elif policy == "best_worst":
            best = best_against_worst(group, own)
            if isinstance(best, Pair):
                found.append(best)
            else:
                left_out[best] += 1
        else:
            found += _decided(group, own, policy, left_out)
    clear = [pair for pair in found if pair.margin >= min_margin]
    left_out[SMALL_MARGIN] += len(found) - len(clear)
    return Preferences(pairs=clear, left_out={reason: left_out[reason] for reason in sorted(+left_out)})


def ground_truth_pairs(groups: Sequence[Group], real: Mapping[int, Sequence[str]]) -> Preferences:
    """A real video of each prompt as the chosen one against every candidate; nobody needs to judge.

    The GT-Pair policy. Beware of what else sets real and generated videos apart (grain, cuts, compression): the
    policy will learn that too.

    Args:
        groups: the candidates of each prompt.
        real: prompt id to the ids of its real videos.
    """
    found = [
        Pair(prompt_id=group.prompt.id, chosen=video, rejected=candidate.id, margin=1.0, margins={})
        for group in groups
        for video in real.get(group.prompt.id, ())
        for candidate in group.videos
    ]
    missing = sum(not real.get(group.prompt.id) for group in groups)
    return Preferences(pairs=found, left_out={NO_REAL_VIDEO: missing} if missing else {})


def _decided(group: Group, own: Sequence[JudgedPair], policy: PairPolicy, left_out: Counter[str]) -> list[Pair]:
    if policy == "per_dimension":
        own = [
            JudgedPair(each.first, each.second, margin, {dimension: margin})
            for each in own
            for dimension, margin in sorted(each.margins.items())
        ]
    pairs = [_pair(group, each.first, each.second, each.margin, each.margins) for each in own if each.margin]
    left_out[NO_PREFERENCE] += len(own) - len(pairs)
    if policy != "agreed":
        return pairs
    agreed = [pair for pair in pairs if all(margin > 0 for margin in pair.margins.values())]
    left_out[DISAGREEMENT] += len(pairs) - len(agreed)
    return agreed


def best_against_worst(group: Group, judged: Sequence[JudgedPair]) -> Pair | str:
    """The group's one pair, or the reason why there is none."""
    seen = seen_margins(judged)
    candidates = [video.id for video in group.videos if video.id in seen]
    score = {video: round(math.fsum(margin for margin, _ in seen[video]) / len(seen[video]), 9) for video in candidates}
    best = max(candidates, key=score.__getitem__)  # the first of equals, as with min
    worst = min(candidates, key=score.__getitem__)
    if score[best] == score[worst]:
        return NO_PREFERENCE
    if not _linked(best, worst, judged):
        return NOT_LINKED
    best_on, worst_on = mean_per_dimension(seen[best]), mean_per_dimension(seen[worst])
    margins = {name: (best_on[name] - worst_on[name]) / 2 for name in best_on if name in worst_on}
    return _pair(group, best, worst, (score[best] - score[worst]) / 2, margins)


def seen_margins(judged: Sequence[JudgedPair]) -> dict[str, list[tuple[float, Margins]]]:
    """Each candidate's judged pairs from its own side."""
    seen: dict[str, list[tuple[float, Margins]]] = {}
    for each in judged:
        seen.setdefault(each.first, []).append((each.margin, each.margins))
        seen.setdefault(each.second, []).append((-each.margin, {name: -m for name, m in each.margins.items()}))
    return seen


def mean_per_dimension(seen: Sequence[tuple[float, Margins]]) -> Margins:
    values: dict[str, list[float]] = {}
    for _, margins in seen:
        for dimension, margin in margins.items():
            values.setdefault(dimension, []).append(margin)
    return {dimension: math.fsum(margins) / len(margins) for dimension, margins in values.items()}


def _linked(start: str, goal: str, judged: Sequence[JudgedPair]) -> bool:
    """Whether a chain of comparisons leads from one to the other; without it their scores are on different scales."""
    reached = {start}
    for _ in judged:
        reached |= {each.second for each in judged if each.first in reached}
        reached |= {each.first for each in judged if each.second in reached}
    return goal in reached


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
