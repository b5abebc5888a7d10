"""How well a reward's scores agree with what people said: accuracy, ranks, correlation and bias, all by dimension."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from reelign.evaluation.feedback_data import Candidate, Choice, Feedback
from reelign.evaluation.feedback_pairs import Compared, accuracy, compared
from reelign.evaluation.feedback_results import Measured, MeasureSettings, Ranking
from reelign.evaluation.feedback_scores import Scores
from reelign.evaluation.ranking_bias import Bias, bias_towards
from reelign.evaluation.ranking_correlation import Correlation, correlation
from reelign.evaluation.ranking_groups import (
    RECALL_AT,
    chance_recall,
    chance_reciprocal_rank,
    rank_of_best,
    recall_at,
    reciprocal_rank,
)
from reelign.evaluation.ranking_intervals import Mean, interval
from reelign.records.bootstrap import Interval

Matched = Mapping[str, tuple[str, ...]]
"""People's dimension -> the reward's dimensions whose mean answers for it."""


def measure(feedback: Feedback, scores: Scores, matched: Matched, settings: MeasureSettings) -> Measured:
    """Compare scores with what people said, dimension by dimension; what has no score is left out and counted."""

    def mean(values: Tensor, prompts: Tensor) -> Interval:
        return interval(values, prompts, resamples=settings.resamples, level=settings.level, seed=settings.seed)

    pairs = {name: compared(feedback.pairs, name, own, scores, settings) for name, own in matched.items()}
    shown = {name: compared(feedback.shown, name, own, scores, settings) for name, own in matched.items()}
    choices = {name: [each for each in feedback.choices if each.dimension == name] for name in matched}
    return Measured(
        accuracy={name: accuracy(each, matched[name], mean, settings) for name, each in pairs.items() if len(each)},
        ranking={name: _ranking(each, matched[name], scores, mean) for name, each in choices.items() if each},
        correlation={
            name: _correlation(feedback.ratings[name], own, scores)
            for name, own in matched.items()
            if name in feedback.ratings
        },
        position=_biases({name: (torch.ones_like(each.verdict), each) for name, each in shown.items()}, mean),
        length=_biases({name: (each.longer, each) for name, each in pairs.items()}, mean),
    )


def _biases(columns: Mapping[str, tuple[Tensor, Compared]], mean: Mean) -> dict[str, Bias]:
    """By dimension; none where no pair tells."""
    found = {
        name: bias_towards(favoured, each.difference, each.verdict, each.prompt, mean=mean)
        for name, (favoured, each) in columns.items()
    }
    return {name: bias for name, bias in found.items() if bias is not None}


def _correlation(ratings: Mapping[Candidate, float], own: Sequence[str], scores: Scores) -> Correlation:
    said = torch.tensor([scores.of(each, own) for each in ratings], dtype=torch.float64)
    return correlation(said, torch.tensor(list(ratings.values()), dtype=torch.float64))


def _ranking(choices: Sequence[Choice], own: tuple[str, ...], scores: Scores, mean: Mean) -> Ranking:
    groups = [_scores(scores, choice, own) for choice in choices]
    ranks = torch.tensor([rank_of_best(group, each.best) for group, each in zip(groups, choices, strict=True)])
    numbers = {text: number for number, text in enumerate(dict.fromkeys(each.candidates[0].prompt for each in choices))}
    prompts = torch.tensor([numbers[each.candidates[0].prompt] for each in choices])
    sizes = [len(each.candidates) for each in choices]
    return Ranking(
        answered_by=own,
        choices=int((~ranks.isnan()).sum()),
        failed=int(ranks.isnan().sum()),
        candidates=(min(sizes), max(sizes)),
        mrr=mean(reciprocal_rank(ranks), prompts),
        recall={k: mean(recall_at(ranks, k), prompts) for k in RECALL_AT},
        chance_mrr=chance_reciprocal_rank(sizes),
        chance_recall={k: chance_recall(sizes, k) for k in RECALL_AT},
    )


def _scores(scores: Scores, choice: Choice, own: Sequence[str]) -> Tensor:
    return torch.tensor([scores.of(each, own) for each in choice.candidates], dtype=torch.float64)
