"""What the record says of each judge: agreement with the others, a taste for one side, pace, gold questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reelign.records.answers import CANNOT_SAY, Kind
from reelign.records.columns import Comparisons
from reelign.records.grades import latest_grades
from reelign.records.schema import Judgement, Task

_MIRRORED = {"a": "b", "b": "a"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """A share of some cases with its 95 % interval (Wilson's); NaN without any case."""

    value: float
    low: float
    high: float
    of: int

    @classmethod
    def count(cls, hits: int, of: int) -> Share:
        """Of `hits` among `of` cases."""
        from scipy.stats import binomtest

        if not of:
            return cls(value=float("nan"), low=float("nan"), high=float("nan"), of=0)
        interval = binomtest(hits, of).proportion_ci(method="wilson")
        return cls(value=hits / of, low=float(interval.low), high=float(interval.high), of=of)


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeStatistics:
    """One judge of pairs."""

    judge: str
    agrees: Share
    """With the majority of the other judges of the same pair and dimension, where they have one."""
    left: Share
    """How often the better video was the one on the left; a careful judge's interval holds 0.5."""
    ties: Share
    cannot_say: Share
    gold: Share
    """Gold questions answered right."""
    median_s: float
    """Time for a judgement; NaN where it was not taken."""


def judge_statistics(
    comparisons: Comparisons,
    *,
    durations: Mapping[str, Sequence[float]] | None = None,
    gold: Iterable[tuple[str, bool]] = (),
) -> list[JudgeStatistics]:
    """Statistics of every judge of pairs, by name.

    Args:
        comparisons: of all judges.
        durations: judge to seconds of each judgement.
        gold: judge, and whether a gold question was answered right.
    """
    count = len(comparisons.judges)
    value, shown = comparisons.value, comparisons.side_by_side
    decided = shown & ~np.isnan(value) & (value != 0)
    chose_left = decided & ((value > 0) == comparisons.first_left)
    agrees, comparable = _agreement_with_others(comparisons)

    def per_judge(rows: np.ndarray) -> list[int]:
        return [int(each) for each in np.bincount(comparisons.judge[rows], minlength=count)]

    shares = {
        "left": (per_judge(chose_left), per_judge(decided)),
        "ties": (per_judge(shown & (value == 0)), per_judge(shown & ~np.isnan(value))),
        "cannot_say": (per_judge(shown & np.isnan(value)), per_judge(shown)),
        "agrees": (agrees, comparable),
        "gold": _gold_counts(comparisons.judges, gold),
    }
    found = []
    for code, judge in enumerate(comparisons.judges):
        own = {name: Share.count(hits[code], of[code]) for name, (hits, of) in shares.items()}
        found.append(JudgeStatistics(judge=judge, median_s=_median((durations or {}).get(judge, ())), **own))
    return found


def grader_statistics(
    judgements: Iterable[Judgement],
    kind: Kind,
    *,
    durations: Mapping[str, Sequence[float]] | None = None,
    gold: Iterable[tuple[str, bool]] = (),
) -> list[JudgeStatistics]:
    """The same of every judge of single videos, by name: there are no sides and no ties among grades.

    Args:
        judgements: of all judges, in order.
        kind: the scale; others are not looked at.
        durations, gold: as for `judge_statistics`.
    """
    agrees: Counter[str] = Counter()
    comparable: Counter[str] = Counter()
    judges: set[str] = set()
    for (_, _, own), given in latest_grades(judgements).items():
        if own != kind:
            continue
        judges.update(given)
        counts = Counter(given.values())
        for judge, grade in given.items():
            others = counts - Counter((grade,))
            for majority, most in others.most_common(1):
                if 2 * most > others.total():
                    comparable[judge] += 1
                    agrees[judge] += majority == grade
    names = sorted(judges)
    right, asked = _gold_counts(names, gold)
    none = Share.count(0, 0)
    return [
        JudgeStatistics(
            judge=name,
            agrees=Share.count(agrees[name], comparable[name]),
            left=none,
            ties=none,
            cannot_say=none,
            gold=Share.count(right[code], asked[code]),
            median_s=_median((durations or {}).get(name, ())),
        )
        for code, name in enumerate(names)
    ]


def answered_right(judgement: Judgement, task: Task) -> bool:
    """Whether a judgement of a gold question gives the right verdict, whichever way the videos were shown."""
    right = (task.gold or {})[judgement.dimension]
    if judgement.kind == "best_of":
        candidates = judgement.candidates or []
        return judgement.verdict != CANNOT_SAY and candidates[int(judgement.verdict)] == task.videos[int(right)]
    if judgement.kind == "pairwise" and judgement.video_a != task.videos[0]:
        return _MIRRORED.get(judgement.verdict, judgement.verdict) == right
    return judgement.verdict == right


def _agreement_with_others(comparisons: Comparisons) -> tuple[list[int], list[int]]:
    """Of each judge: how many voices agree with the others' majority, and how many could."""
    items, judges = comparisons.items(), len(comparisons.judges)
    signs = np.sign(items.value).astype(np.int64) + 1
    counts = np.bincount(items.item * 3 + signs, minlength=3 * items.count).reshape(-1, 3)
    others = counts[items.item]
    others[np.arange(len(signs)), signs] -= 1
    decided = 2 * others.max(axis=1, initial=0) > others.sum(axis=1)
    agrees = decided & (others.argmax(axis=1) == signs)
    return (
        [int(each) for each in np.bincount(items.judge[agrees], minlength=judges)],
        [int(each) for each in np.bincount(items.judge[decided], minlength=judges)],
    )


def _median(seconds: Sequence[float]) -> float:
    return float(np.median(seconds)) if len(seconds) else float("nan")


def _gold_counts(judges: Sequence[str], gold: Iterable[tuple[str, bool]]) -> tuple[list[int], list[int]]:
    right, asked = dict.fromkeys(judges, 0), dict.fromkeys(judges, 0)
    for judge, correct in gold:
        if judge in asked:
            asked[judge] += 1
            right[judge] += correct
    return list(right.values()), list(asked.values())
