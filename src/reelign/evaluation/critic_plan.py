"""What a critic is asked to be measured: every pair in both orders, some of them again and with other prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from reelign.diffusion.seeds import generator_from
from reelign.evaluation.critic_answers import VALUES, Question
from reelign.evaluation.feedback_data import Feedback

T = TypeVar("T")
NAN = float("nan")


@dataclass(frozen=True, kw_only=True, slots=True)
class Probed:
    """A question, and the ways in which it is asked again."""

    right: Question
    repeats: tuple[Question, ...]
    """The same, drawn anew."""
    empty: Question | None = None
    """Without its prompt; None where it is not asked."""
    wrong: Question | None = None
    """With another one of the prompts; None where it is not asked, or there is no other."""

    def __iter__(self) -> Iterator[Question]:
        yield self.right
        yield from self.repeats
        for each in (self.empty, self.wrong):
            if each is not None:
                yield each


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What people judged on one dimension, N pairs or N videos, and what the critic is asked about them."""

    answered_by: str
    """The critic's dimension."""
    said: tuple[float, ...]
    """(N) what people say: of a pair 1, 0 or -1, of a video 1 good, 0.5 normal, 0 bad; NaN of one only rated."""
    asked: tuple[tuple[Question, ...], ...]
    """(N) of a pair with the first video first and with the second first, of a video once."""
    probed: tuple[tuple[int, Probed], ...]
    """Places among the N, and how these are asked again."""
    ratings: tuple[float, ...] = ()
    """(N) of videos, people's mean rating; NaN where nobody rated it."""

    @property
    def prompts(self) -> list[str]:
        """(N)"""
        return [own[0].prompt for own in self.asked]

    def __iter__(self) -> Iterator[Question]:
        """Those about the same videos next to each other."""
        again = dict(self.probed)
        for place, own in enumerate(self.asked):
            yield from own
            if place in again:
                yield from again[place]


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanSettings:
    """How much is asked."""

    max_pairs: int = 0
    """Pairs of a dimension at most, drawn at random; 0 takes all."""
    max_videos: int = 0
    """Graded videos of a dimension at most; 0 takes all."""
    probes: int = 100
    """Pairs, and videos, of a dimension that are asked about again: repeats and other prompts; 0 asks none."""
    repeats: int = 3
    """Askings of one question by which self-consistency is measured, the first among them."""
    prompts: bool = True
    """Whether probes are asked with an empty and with another prompt too."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("max_pairs", "max_videos", "probes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.repeats < 1:
            raise ValueError(f"repeats must be at least 1, got {self.repeats}")


def plan_pairs(feedback: Feedback, dimension: str, answered_by: str, settings: PlanSettings) -> Plan:
    """What is asked about the pairs that people judged on a dimension; only pairs that they decided are probed."""
    judged = [pair for pair in feedback.pairs if dimension in pair.verdicts]
    judged = some(judged, settings.max_pairs, settings.seed, "pairs", dimension)
    asked = []
    for pair in judged:
        sides = (pair.first.video, pair.second.video)
        orders = (sides, sides[::-1])
        asked.append(tuple(Question(videos=own, prompt=pair.first.prompt, dimension=answered_by) for own in orders))
    decided = [place for place, pair in enumerate(judged) if pair.verdicts[dimension]]
    return Plan(
        answered_by=answered_by,
        said=tuple(float(pair.verdicts[dimension]) for pair in judged),
        asked=tuple(asked),
        probed=_probes(asked, decided, feedback, settings, "probed pairs", dimension),
    )


def plan_videos(feedback: Feedback, dimension: str, answered_by: str, settings: PlanSettings) -> Plan:
    """What is asked about the videos that people graded, or rated, on a dimension."""
    grades, ratings = feedback.grades.get(dimension, {}), feedback.ratings.get(dimension, {})
    videos = some(list({**grades, **ratings}), settings.max_videos, settings.seed, "videos", dimension)
    asked = [(Question(videos=(each.video,), prompt=each.prompt, dimension=answered_by),) for each in videos]
    return Plan(
        answered_by=answered_by,
        said=tuple(VALUES[grades[each]] if each in grades else NAN for each in videos),
        asked=tuple(asked),
        probed=_probes(asked, range(len(asked)), feedback, settings, "probed videos", dimension),
        ratings=tuple(ratings.get(each, NAN) for each in videos),
    )


def other_prompts(feedback: Feedback, seed: int) -> dict[str, str]:
    """Another prompt for each, each taken once; {} where there is only one."""
    texts = sorted({candidate.prompt for candidate in feedback.candidates})
    order = torch.randperm(len(texts), generator=generator_from(seed, "other prompts")).tolist()
    if len(texts) < 2:
        return {}
    return {texts[here]: texts[there] for here, there in zip(order, [*order[1:], order[0]], strict=True)}


def some(rows: Sequence[T], most: int, seed: int, *what: str) -> list[T]:
    """So many rows drawn at random, in their own order; 0 takes all."""
    if not most or len(rows) <= most:
        return list(rows)
    drawn = torch.randperm(len(rows), generator=generator_from(seed, *what))[:most]
    return [rows[place] for place in drawn.sort().values.tolist()]


def _probes(
    asked: Sequence[tuple[Question, ...]],
    among: Sequence[int],
    feedback: Feedback,
    settings: PlanSettings,
    *what: str,
) -> tuple[tuple[int, Probed], ...]:
    others = other_prompts(feedback, settings.seed) if settings.prompts else {}
    places = some(among, settings.probes, settings.seed, *what) if settings.probes else []
    return tuple((place, _probed(asked[place][0], others, settings)) for place in places)


def _probed(question: Question, others: Mapping[str, str], settings: PlanSettings) -> Probed:
    wrong = others.get(question.prompt)
    return Probed(
        right=question,
        repeats=tuple(replace(question, vote=vote) for vote in range(1, settings.repeats)),
        empty=replace(question, prompt="") if settings.prompts else None,
        wrong=None if wrong is None else replace(question, prompt=wrong),
    )
