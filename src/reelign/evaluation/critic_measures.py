"""How well a critic's answers agree with people's, with each other, and with the prompt: numbers of one dimension."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

from reelign.evaluation.critic_answers import Answer, Question, counts
from reelign.evaluation.critic_plan import Plan
from reelign.evaluation.critic_results import Answers, Certain, PairAnswers, Sensitivity, VideoAnswers
from reelign.evaluation.ranking_correlation import correlation
from reelign.evaluation.ranking_intervals import Mean
from reelign.records.bootstrap import Interval
from reelign.records.ranking_accuracy import NAN, with_ties_by_pair, without_ties_by_pair

GRADES = {1.0: "good", 0.5: "normal", 0.0: "bad"}
CERTAIN = (0.6, 0.7, 0.8, 0.9, 0.95)
"""Certainties at which one may draw the line."""


def measure_pairs(plan: Plan, answers: Mapping[Question, Answer], mean: Mean) -> PairAnswers:
    """Comparisons against people's verdicts; every pair was asked about in both orders."""
    said, prompts = torch.tensor(plan.said, dtype=torch.float64), _prompts(plan)
    shown = _values(plan, answers)
    # Both in favour of the first video: what it says of the turned pair is turned back.
    one, other = shown[:, 0], -shown[:, 1]
    same = torch.where(one.isnan() | other.isnan(), NAN, (one == other).double())
    agreed = torch.where(one == other, one, NAN)
    chosen = torch.where(shown == 0, NAN, 0.5 * (1 + shown))
    return PairAnswers(
        answers=_answers(plan, answers, mean),
        pairs=len(said),
        ties=int((said == 0).sum()),
        without_ties=mean(_over_orders(without_ties_by_pair(each, said) for each in (one, other)), prompts),
        with_ties=mean(_over_orders(with_ties_by_pair(each, said, 0.0) for each in (one, other)), prompts),
        consistent=mean(same, prompts),
        swapped=mean(without_ties_by_pair(agreed, said), prompts),
        swapped_with_ties=mean(with_ties_by_pair(agreed, said, 0.0), prompts),
        first=mean(_over_orders(chosen.unbind(dim=1)), prompts),
        certain=_certain(plan, answers, torch.stack([one, other], dim=1), said, mean),
    )


def measure_videos(plan: Plan, answers: Mapping[Question, Answer], mean: Mean) -> VideoAnswers:
    """Grades against people's."""
    said, prompts = torch.tensor(plan.said, dtype=torch.float64), _prompts(plan)
    given = _values(plan, answers)[:, 0]
    both = ~(said.isnan() | given.isnan())
    side = torch.where(both, ((said > 0) == (given > 0)).double(), NAN)
    table: dict[str, dict[str, int]] = {one: dict.fromkeys(GRADES.values(), 0) for one in GRADES.values()}
    for theirs, own in zip(said[both].tolist(), given[both].tolist(), strict=True):
        table[GRADES[theirs]][GRADES[own]] += 1
    ratings = torch.tensor(plan.ratings, dtype=torch.float64)
    return VideoAnswers(
        answers=_answers(plan, answers, mean),
        videos=int((~said.isnan()).sum()),
        three_level=mean(_grade_accuracy(given, said), prompts),
        desirable=mean(side, prompts),
        confusion=table,
        correlation=correlation(given, ratings) if bool(ratings.isfinite().any()) else None,
    )


def agreement_of_askings(values: Tensor) -> Tensor:
    """Share of equal verdicts among all pairs of askings of each question.

    Args:
        values: (questions, askings) answers as numbers; NaN where there is no verdict.
    Returns:
        (questions,) in [0, 1]; NaN where fewer than two askings have a verdict.
    """
    same = [
        torch.where(values[:, a].isnan() | values[:, b].isnan(), NAN, (values[:, a] == values[:, b]).double())
        for a, b in combinations(range(values.shape[1]), 2)
    ]
    return torch.stack(same, dim=1).nanmean(dim=1)


def _answers(plan: Plan, answers: Mapping[Question, Answer], mean: Mean) -> Answers:
    asked = [question for own in plan.asked for question in own]
    missing = _values(plan, answers).isnan().double().mean(dim=1)
    return Answers(
        answered_by=plan.answered_by,
        asked=len(asked),
        left_out=counts(answers, asked),
        unanswered=mean(missing, _prompts(plan)),
        repeated=_repeated(plan, answers, mean),
        prompts=_sensitivity(plan, answers, mean),
    )


def _repeated(plan: Plan, answers: Mapping[Question, Answer], mean: Mean) -> Interval | None:
    rows = [[answers[each].value for each in (probe.right, *probe.repeats)] for _, probe in plan.probed]
    if not rows or len(rows[0]) < 2:
        return None
    return mean(agreement_of_askings(torch.tensor(rows, dtype=torch.float64)), _prompts(plan)[_places(plan)])


def _sensitivity(plan: Plan, answers: Mapping[Question, Answer], mean: Mean) -> Sensitivity | None:
    ways = {"empty": [probe.empty for _, probe in plan.probed], "wrong": [probe.wrong for _, probe in plan.probed]}
    ways = {way: own for way, own in ways.items() if own and None not in own}
    if not ways:
        return None
    places = _places(plan)
    prompts, said = _prompts(plan)[places], torch.tensor(plan.said, dtype=torch.float64)[places]
    of_pairs = len(plan.asked[0]) == 2
    judge = without_ties_by_pair if of_pairs else _grade_accuracy
    right = _told([probe.right for _, probe in plan.probed], answers)
    told = {way: _told([each for each in own if each is not None], answers) for way, own in ways.items()}
    changed = {way: torch.where(own.isnan() | right.isnan(), NAN, (own != right).double()) for way, own in told.items()}
    return Sensitivity(
        probes=len(places),
        right=mean(judge(right, said), prompts),
        accuracy={way: mean(judge(own, said), prompts) for way, own in told.items()},
        changed={way: mean(own, prompts) for way, own in changed.items()},
        fallen={} if of_pairs else {way: mean(right - own, prompts) for way, own in told.items()},
    )


def _certain(
    plan: Plan, answers: Mapping[Question, Answer], said_of_first: Tensor, said: Tensor, mean: Mean
) -> tuple[Certain, ...]:
    """By certainty, over both orders of every pair."""
    sure = torch.tensor([[_number(answers[each].certainty) for each in own] for own in plan.asked], dtype=torch.float64)
    known = ~(sure.isnan() | said_of_first.isnan())
    if not bool(known.any()):
        return ()
    prompts = _prompts(plan)
    rows = []
    for line in CERTAIN:
        kept = torch.where(known, (sure >= line).double(), NAN)
        own = torch.where(known & (sure >= line), said_of_first, NAN)
        right = _over_orders(without_ties_by_pair(each, said) for each in own.unbind(dim=1))
        rows.append(Certain(at_least=line, share=mean(kept.nanmean(dim=1), prompts), right=mean(right, prompts)))
    return tuple(rows)


def _grade_accuracy(given: Tensor, said: Tensor) -> Tensor:
    return torch.where(given.isnan() | said.isnan(), NAN, (given == said).double())


def _over_orders(columns: Iterable[Tensor]) -> Tensor:
    """The mean over both orders of each pair; of one where the other has no answer."""
    return torch.stack(list(columns), dim=1).nanmean(dim=1)


def _values(plan: Plan, answers: Mapping[Question, Answer]) -> Tensor:
    """(N, questions about each) as they were asked."""
    rows = [[answers[each].value for each in own] for own in plan.asked]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), -1)


def _told(questions: Sequence[Question], answers: Mapping[Question, Answer]) -> Tensor:
    return torch.tensor([answers[each].value for each in questions], dtype=torch.float64)


def _places(plan: Plan) -> Tensor:
    return torch.tensor([place for place, _ in plan.probed], dtype=torch.int64)


def _prompts(plan: Plan) -> Tensor:
    """(N) a number for each prompt."""
    numbers: dict[str, int] = {}
    return torch.tensor([numbers.setdefault(text, len(numbers)) for text in plan.prompts], dtype=torch.int64)


def _number(certainty: float | None) -> float:
    return NAN if certainty is None else certainty
