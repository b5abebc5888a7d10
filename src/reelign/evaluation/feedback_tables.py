"""What was measured as tables for people to read, in the layout of the papers and with their rows beside."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from reelign.evaluation.feedback_published import (
    ACCURACY,
    COLUMNS,
    RANKING,
    RANKING_CANDIDATES,
    RANKING_SOURCE,
    Published,
)
from reelign.evaluation.feedback_results import Accuracy, Measured, ModelPair, Ranking
from reelign.evaluation.ranking_bias import Bias
from reelign.evaluation.ranking_groups import RECALL_AT
from reelign.records.bootstrap import Interval

NONE = "–"
MODEL_PAIRS = 12
"""Pairs of generators that are shown; the result file has all."""


@dataclass(frozen=True, slots=True)
class Table:
    """A heading, a row of column names, rows of cells, and what is to be said below."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def text(self) -> str:
        """In columns, as wide as they must be: cut to a terminal's width they would lose their numbers."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        lines.insert(1, ["─" * width for width in widths])
        drawn = [
            "  ".join(
                cell.rjust(width) if column else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        return "\n".join([self.title, "", *drawn, *([self.note] if self.note else [])])

    def markdown(self) -> str:
        lines = [self.header, ["---", *["---:"] * (len(self.header) - 1)], *self.rows]
        table = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
        return f"## {self.title}\n\n{table}\n" + (f"\n{self.note}\n" if self.note else "")


def tables(measured: Measured, *, reward: str, format: str, as_published: bool) -> list[Table]:
    """All that was measured; a table whose numbers are not there is left out."""
    return [*_tables(measured, reward, format, as_published)]


def _tables(measured: Measured, reward: str, format: str, as_published: bool) -> Iterator[Table]:
    if measured.accuracy:
        yield _accuracy(measured.accuracy, as_published)
        if format in ACCURACY:
            yield _beside(measured.accuracy, ACCURACY[format], reward)
        if any(len(each.models) > 1 for each in measured.accuracy.values()):
            yield _models(measured.accuracy)
    if measured.ranking:
        yield _ranking(measured.ranking, reward)
    if measured.correlation:
        rows = [
            [name, str(each.videos), number(each.spearman), number(each.kendall)]
            for name, each in measured.correlation.items()
        ]
        yield Table("Correlation with ratings", ["dimension", "videos", "Spearman", "Kendall"], rows)
    if measured.position or measured.length:
        yield _biases(measured)


def _accuracy(found: Mapping[str, Accuracy], as_published: bool) -> Table:
    header = [
        "dimension",
        "answered by",
        "pairs",
        "ties",
        "w/o ties",
        "with ties",
        "tie band",
        "calibrated",
        "failed",
    ]
    rows = [
        [
            name,
            " + ".join(each.answered_by),
            str(each.pairs),
            str(each.ties),
            share(each.without_ties),
            share(each.with_ties),
            number(each.threshold),
            share(each.calibrated.with_ties) if each.calibrated else NONE,
            str(each.failed),
        ]
        for name, each in found.items()
    ]
    rule = (
        "Counted as VideoAlign's script counts: ties are made one pair at a time, equal scores are wrong."
        if as_published
        else "Equal scores count as half right without ties."
    )
    note = (
        "Accuracy in %, with its interval over prompts. With ties, scores no further apart than the tie band are "
        "a tie; the band is the best for these very pairs, and for `calibrated` it was found on other prompts. " + rule
    )
    return Table("Accuracy", header, rows, note)


def _beside(found: Mapping[str, Accuracy], published: Published, reward: str) -> Table:
    """The papers' layout: a row per source, each dimension with ties and without."""
    columns = COLUMNS[: max(len(row) for row in published.rows.values())]
    own = [percent(value) for name in columns for value in _means(found.get(name))]
    others = [
        [f"{name} (published)", *(f"{value:.2f}" for pair in row for value in pair)]
        for name, row in published.rows.items()
    ]
    pairs = max(each.pairs for each in found.values())
    note = f"Published: {published.source}."
    if pairs != published.pairs:
        note += f" Yours are {pairs} of its {published.pairs} pairs, so they differ in that too."
    title = f"{published.benchmark} beside the published figures"
    return Table(title, ["source", *_both_ways(columns)], [[reward, *own], *others], note)


def _models(found: Mapping[str, Accuracy]) -> Table:
    """A row per pair of generators, each dimension with ties and without."""
    cells = {name: {each.models: each for each in own.models} for name, own in found.items()}
    counts = {
        models: max(own[models].pairs for own in cells.values() if models in own)
        for own in cells.values()
        for models in own
    }
    shown = sorted(counts, key=lambda models: (-counts[models], models))[:MODEL_PAIRS]
    rows = []
    for models in shown:
        own = [each.get(models) for each in cells.values()]
        shares = [percent(value, ".1f") for each in own for value in _means(each)]
        rows.append([" – ".join(models), str(counts[models]), *shares])
    note = (
        f"And {len(counts) - len(shown)} more pairs of generators in feedback.json." if len(counts) > len(shown) else ""
    )
    return Table("Between generators", ["generators", "pairs", *_both_ways(cells)], rows, note)


def _means(each: ModelPair | Accuracy | None) -> tuple[float, float]:
    return (each.with_ties.mean, each.without_ties.mean) if each else (math.nan, math.nan)


def _both_ways(names: Iterable[str]) -> list[str]:
    return [f"{name} {how}" for name in names for how in ("w/ ties", "w/o")]


def _ranking(found: Mapping[str, Ranking], reward: str) -> Table:
    header = ["source", "choices", "MRR", *(f"R@{k}" for k in RECALL_AT), "failed"]
    rows = []
    for name, each in found.items():
        shares = [share(each.mrr), *(share(each.recall[k]) for k in RECALL_AT)]
        chance = [percent(each.chance_mrr), *(percent(each.chance_recall[k]) for k in RECALL_AT)]
        rows += [
            [f"{reward}, {name}", str(each.choices), *shares, str(each.failed)],
            [f"chance, {name}", "", *chance, ""],
        ]
    low, high = (pick(each.candidates[side] for each in found.values()) for side, pick in ((0, min), (1, max)))
    note = f"In %, where the reward puts what people chose as the best of {low if low == high else f'{low} to {high}'}."
    if (low, high) == (RANKING_CANDIDATES, RANKING_CANDIDATES):
        rows += [[f"{name} (published)", "", *(f"{each:.1f}" for each in row), ""] for name, row in RANKING.items()]
        note += f" Published: {RANKING_SOURCE}; in four of its rows the MRR is higher than the recalls allow."
    return Table("The best of N", header, rows, note)


def _biases(measured: Measured) -> Table:
    kinds = (("the first or left video", measured.position), ("the longer video", measured.length))
    rows = [_bias(towards, name, each) for towards, found in kinds for name, each in found.items()]
    note = "Of the pairs that people decided: how often each chooses that video, in %, and what the reward has more of."
    return Table("Bias", ["towards", "dimension", "pairs", "people", "reward", "excess"], rows, note)


def _bias(towards: str, name: str, each: Bias) -> list[str]:
    return [towards, name, str(each.pairs), share(each.people), share(each.reward), share(each.excess, "+.1f")]


def share(each: Interval, form: str = ".1f") -> str:
    """A share in percent with its interval."""
    mean, low, high = (percent(value, form) for value in (each.mean, each.low, each.high))
    return mean if math.isnan(each.low) else f"{mean} [{low}, {high}]"


def percent(value: float, form: str = ".2f") -> str:
    return NONE if math.isnan(value) else format(100 * value, form)


def number(value: float) -> str:
    return NONE if math.isnan(value) else f"{value:.3g}"
