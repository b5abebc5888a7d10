"""Judged pairs of one dimension as columns, and the accuracy of a reward on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.evaluation.feedback_data import JudgedPair
from reelign.evaluation.feedback_results import Accuracy, Calibrated, MeasureSettings, ModelPair
from reelign.evaluation.feedback_scores import Scores
from reelign.evaluation.ranking_bias import longer
from reelign.evaluation.ranking_intervals import Mean
from reelign.records.ranking_accuracy import (
    best_threshold,
    published_with_ties_by_pair,
    published_without_ties_by_pair,
    with_ties_by_pair,
    without_ties_by_pair,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """The pairs of one dimension as columns."""

    difference: Tensor
    """(pairs,) score of the first less that of the second; NaN where either failed."""
    verdict: Tensor
    """(pairs,) what people say: 1, 0, -1."""
    prompt: Tensor
    """(pairs,) a number for each prompt."""
    longer: Tensor
    """(pairs,) 1 where the first video is the longer one."""
    models: Sequence[tuple[str, str]]
    """What made the two, in alphabetical order."""
    calibrates: Tensor
    """(pairs,) whether the prompt belongs to the calibration split."""

    def __len__(self) -> int:
        return len(self.verdict)


def compared(
    pairs: Sequence[JudgedPair], dimension: str, own: Sequence[str], scores: Scores, settings: MeasureSettings
) -> Compared:
    """The pairs that people judged on a dimension, as columns."""
    judged = [pair for pair in pairs if dimension in pair.verdicts]
    prompts = {text: number for number, text in enumerate(dict.fromkeys(pair.first.prompt for pair in judged))}
    calibrating = {text: _calibrates(text, settings) for text in prompts}
    sides = [
        torch.tensor([take(pair.first) - take(pair.second) for pair in judged], dtype=torch.float64)
        for take in (lambda each: scores.of(each, own), scores.duration_s)
    ]
    return Compared(
        difference=sides[0],
        verdict=torch.tensor([pair.verdicts[dimension] for pair in judged], dtype=torch.float64),
        prompt=torch.tensor([prompts[pair.first.prompt] for pair in judged], dtype=torch.int64),
        longer=longer(sides[1]),
        models=[_in_order(pair.models) for pair in judged],
        calibrates=torch.tensor([calibrating[pair.first.prompt] for pair in judged], dtype=torch.bool),
    )


def _calibrates(prompt: str, settings: MeasureSettings) -> bool:
    """Drawn by the prompt alone, so that a prompt stays on its side whatever else is in the file."""
    chance = generator_from(settings.seed, "calibration", prompt)
    return float(torch.rand((), generator=chance)) < settings.calibration


def _in_order(models: tuple[str, str]) -> tuple[str, str]:
    return min(models), max(models)


def accuracy(columns: Compared, own: tuple[str, ...], mean: Mean, settings: MeasureSettings) -> Accuracy:
    """Pairwise accuracy of the reward's dimensions `own`, with all that breaks it down."""
    difference, verdict, prompt = columns.difference, columns.verdict, columns.prompt
    known = ~difference.isnan()
    if not known.any():
        without_ties = with_ties = torch.full_like(difference, float("nan"))
        threshold = float("nan")
    elif settings.as_published:
        without_ties = published_without_ties_by_pair(difference, verdict)
        with_ties, threshold = published_with_ties_by_pair(difference, verdict)
    else:
        threshold = best_threshold(difference, verdict)
        without_ties = without_ties_by_pair(difference, verdict)
        with_ties = with_ties_by_pair(difference, verdict, threshold)
    return Accuracy(
        answered_by=own,
        pairs=int(known.sum()),
        ties=int((known & (verdict == 0)).sum()),
        equal_scores=int((difference == 0).sum()),
        failed=int((~known).sum()),
        without_ties=mean(without_ties, prompt),
        with_ties=mean(with_ties, prompt),
        threshold=threshold,
        calibrated=_calibrated(columns, mean),
        models=_by_models(columns.models, known, prompt, without_ties, with_ties, mean),
    )


def _calibrated(columns: Compared, mean: Mean) -> Calibrated | None:
    known = ~columns.difference.isnan()
    on, off = known & columns.calibrates, known & ~columns.calibrates
    if not on.any() or not off.any():
        return None
    threshold = best_threshold(columns.difference[on], columns.verdict[on])
    right = with_ties_by_pair(columns.difference[off], columns.verdict[off], threshold)
    return Calibrated(threshold=threshold, found_on=int(on.sum()), with_ties=mean(right, columns.prompt[off]))


def _by_models(
    models: Sequence[tuple[str, str]],
    known: Tensor,
    prompt: Tensor,
    without_ties: Tensor,
    with_ties: Tensor,
    mean: Mean,
) -> tuple[ModelPair, ...]:
    """Most frequent first; nothing where the data does not say what made its videos."""
    rows: dict[tuple[str, str], list[int]] = {}
    for row, (names, there) in enumerate(zip(models, known.tolist(), strict=True)):
        if there and all(names):
            rows.setdefault(names, []).append(row)
    return tuple(
        ModelPair(
            models=names,
            pairs=len(own),
            without_ties=mean(without_ties[own], prompt[own]),
            with_ties=mean(with_ties[own], prompt[own]),
        )
        for names, own in sorted(rows.items(), key=lambda each: (-len(each[1]), each[0]))
    )
