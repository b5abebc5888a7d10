"""The report: one HTML file that shows what alignment changed, and opens anywhere without a network."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import yaml
from torch import Tensor

from reelign.errors import ReelignError
from reelign.evaluation.curves import Curve, draw_curves, read_metrics
from reelign.evaluation.paired import Comparison
from reelign.evaluation.watch_panel import WatchPanel
from reelign.files import write_text
from reelign.records.bootstrap import Interval
from reelign.video import encode_video

_READABLE_WIDTH = 128
"""Pixels a clip is enlarged to, so that a 32x32 one can be judged by eye."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportSample:
    """One prompt and seed, before and after: videos (F, 3, H, W) in [0, 1] and their scores by dimension."""

    prompt: str
    seed: int
    base: Tensor
    aligned: Tensor
    base_scores: Mapping[str, float]
    aligned_scores: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """A number that labelled nothing in training, so that a gain in reward alone cannot move it."""

    name: str
    base: float
    aligned: float
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Everything the page shows. What is left empty is left out of the page."""

    title: str
    model: str
    comparison: Comparison
    prompts: Sequence[str] = ()
    """The compared prompts in the comparison's order; without them a pair that is left out is named by its place."""
    samples: Sequence[ReportSample] = ()
    fps: float = 8.0
    curves: Path | None = None
    """The run's `metrics.jsonl`."""
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)
    """Seconds per stage."""
    peak_memory_bytes: int | None = None
    measures: Sequence[Measure] = ()
    controls: Sequence[tuple[str, Interval]] = ()
    """Gains of runs that should not gain, each with its interval."""
    watch: WatchPanel | None = None
    """What the watch on reward hacking saw while the run trained."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A sample as the template takes it."""

    prompt: str
    seed: int
    base: str
    aligned: str
    frames: int
    scores: list[tuple[str, float, float]]


def write_report(path: str | Path, report: Report) -> None:
    """Write the report beside `path` and rename it, so that an interrupted writing leaves the former report whole."""
    page = render(report)
    try:
        write_text(Path(path), page)
    except OSError as error:
        raise ReelignError(
            f"The report {path} cannot be written: {error}.", "Free some space or choose another folder, and run again."
        ) from None


def render(report: Report) -> str:
    """The page as one string."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reelign.evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(score=_score, signed=_signed, duration=_duration, memory=_memory)
    environment.globals.update(position=_position)
    curves: list[Curve] = draw_curves(read_metrics(report.curves)) if report.curves is not None else []
    spans = [report.comparison.interval, *(interval for _, interval in report.controls)]
    ends = [end for span in spans for end in (span.low, span.high)]
    ends += [end for dimension in report.comparison.dimensions.values() for end in (dimension.low, dimension.high)]
    return environment.get_template("report.html.j2").render(
        report=report,
        comparison=report.comparison,
        headline=headline(report.comparison),
        warnings=_warnings(report),
        rows=[_row(sample, report.fps) for sample in report.samples],
        curves=curves,
        config=as_yaml(report.config),
        reach=max(*(abs(end) for end in ends), 1e-9),
    )


def headline(comparison: Comparison, what: str = "Alignment") -> str:
    """The finding in one sentence, with its interval."""
    verb = "raised" if comparison.low > 0 else "lowered" if comparison.high < 0 else "did not clearly change"
    amount = f"by {abs(comparison.gain):.3f}" if verb != "did not clearly change" else f"({_signed(comparison.gain)})"
    return (
        f"{what} {verb} the mean reward {amount}, from {comparison.base:.3f} to {comparison.aligned:.3f}; "
        f"the {100 * comparison.level:.0f} % interval of the gain is "
        f"{_signed(comparison.low)} to {_signed(comparison.high)}."
    )


def _warnings(report: Report) -> list[str]:
    comparison, prompts = report.comparison, report.prompts
    found = [report.watch.warning] if report.watch is not None and report.watch.warning else []
    for name in comparison.significantly_down:
        dimension = comparison.dimensions[name]
        found.append(
            f"{name} is significantly down: {_signed(dimension.gain)} "
            f"({_signed(dimension.low)} to {_signed(dimension.high)})."
        )
    if comparison.left_out:
        named = [
            f"{repr(prompts[lost.prompt]) if prompts else f'prompt {lost.prompt}'}, seed {lost.seed} ({lost.side})"
            for lost in comparison.left_out[:20]
        ]
        more = len(comparison.left_out) - len(named)
        noun = "pair is" if len(comparison.left_out) == 1 else "pairs are"
        found.append(
            f"{len(comparison.left_out)} {noun} left out on both sides because a sample failed: {'; '.join(named)}"
            + (f"; and {more} more." if more else ".")
        )
    return found


def _row(sample: ReportSample, fps: float) -> _Row:
    if sample.base.shape != sample.aligned.shape:
        raise ReelignError(
            f"The two videos of {sample.prompt!r}, seed {sample.seed}, differ in shape: {tuple(sample.base.shape)} and "
            f"{tuple(sample.aligned.shape)}.",
            "Sample both models with the same size and number of frames.",
        )
    names = [name for name in sample.base_scores if name in sample.aligned_scores]
    return _Row(
        prompt=sample.prompt,
        seed=sample.seed,
        base=data_uri(sample.base, fps),
        aligned=data_uri(sample.aligned, fps),
        frames=len(sample.base),
        scores=[(name, sample.base_scores[name], sample.aligned_scores[name]) for name in names],
    )


def data_uri(video: Tensor, fps: float) -> str:
    """A video (F, 3, H, W) in [0, 1] as a page holds it, small ones enlarged."""
    scale = max(1, _READABLE_WIDTH // video.shape[-1])
    return "data:video/mp4;base64," + base64.b64encode(encode_video(video, fps, scale=scale)).decode()


def as_yaml(config: Mapping[str, Any]) -> str:
    """A resolved config as a reader of the page or the card sees it."""
    # By way of JSON, so that paths, tuples and other values a config holds become what YAML can write.
    plain = json.loads(json.dumps(dict(config), default=str))
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)) if plain else ""


def _score(value: float) -> str:
    return "failed" if value != value else f"{value:.3f}"


def _signed(value: float) -> str:
    """With its sign, and a true minus."""
    return f"{value:+.3f}".replace("-", "−")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def _memory(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _position(value: float, reach: float) -> str:
    """Where a value stands on an axis from -reach to +reach, in per cent."""
    return f"{50 + 46 * value / reach:.2f}"
