"""The page of rounds: what held-out judges say after each, which is the best, and videos before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from reelign.errors import ReelignError
from reelign.evaluation.report import ReportSample, as_yaml, data_uri
from reelign.files import write_text
from reelign.records.bootstrap import Interval

WIDTH, HEIGHT, EDGE = 480, 220, 36
"""Of the drawing, in its own units; EDGE is kept free around it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundLine:
    """One round, or the base."""

    name: str
    gains: Mapping[str, Interval]
    """By held-out judge, the gain over the base in the mean score, with its interval."""
    means: Mapping[str, float]
    """By held-out judge, the mean score over dimensions; NaN where nothing was scored."""
    what: str = ""
    """How it was made."""
    failed: int = 0
    """Samples that failed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundsReport:
    """Everything the page shows."""

    title: str
    model: str
    headline: str
    judges: Mapping[str, str]
    """By name, what each held-out judge decides."""
    lines: Sequence[RoundLine]
    """The base, then the rounds in order."""
    best: int
    """Place in `lines`."""
    samples: Sequence[ReportSample] = ()
    fps: float = 8.0
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mark:
    """A round of one judge in the drawing: place, and ends of the interval."""

    x: float
    y: float
    low: float
    high: float


def write_rounds(path: Path, report: RoundsReport) -> None:
    """Write the page, whole or not at all.

    Raises:
        ReelignError: it cannot be written.
    """
    try:
        write_text(path, render_rounds(report))
    except OSError as error:
        raise ReelignError(
            f"The report {path} cannot be written: {error}.", "Free some space, and run again."
        ) from None


def render_rounds(report: RoundsReport) -> str:
    """The page as one string."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reelign.evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(score=_score, signed=_signed)
    return environment.get_template("rounds.html.j2").render(
        report=report,
        marks={name: marks(report.lines, name) for name in report.judges},
        zero=_height(0.0, _reach(report.lines)),
        size=(WIDTH, HEIGHT, EDGE),
        videos=[(each, data_uri(each.base, report.fps), data_uri(each.aligned, report.fps)) for each in report.samples],
        config=as_yaml(report.config),
    )


def marks(lines: Sequence[RoundLine], judge: str) -> list[Mark]:
    """Where a judge's gains stand in the drawing, the base at the left; all judges share one scale around zero."""
    reach = _reach(lines)
    step = (WIDTH - 2 * EDGE) / max(1, len(lines) - 1)
    found = []
    for place, line in enumerate(lines):
        gain = line.gains[judge]
        found.append(
            Mark(EDGE + place * step, _height(gain.mean, reach), _height(gain.low, reach), _height(gain.high, reach))
        )
    return found


def _reach(lines: Sequence[RoundLine]) -> float:
    ends = [abs(end) for line in lines for gain in line.gains.values() for end in (gain.mean, gain.low, gain.high)]
    return max([*ends, 1e-9])


def _height(value: float, reach: float) -> float:
    return round(HEIGHT / 2 - value / reach * (HEIGHT / 2 - EDGE), 2)


def _score(value: float) -> str:
    return "failed" if value != value else f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
