"""Training curves: a run's `metrics.jsonl` read and drawn as inline SVG."""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reelign.errors import ReelignError

Record = dict[str, float]


@dataclass(frozen=True, slots=True)
class Panel:
    """What one drawing shows: metric keys with their labels, and the level that means "nothing has changed"."""

    name: str
    title: str
    note: str
    lines: tuple[tuple[str, str], ...]
    neutral: float | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """One drawing: an `<svg>` element whose colours are CSS variables of the page that holds it."""

    name: str
    title: str
    note: str
    svg: str


LOSS_NOTES = {
    "chosen_error_gap": "Lower is better; log 2 = 0.69 is no preference learned (DPO).",
    "gradient/steps": "Lower is better: it falls as the reward rises, and anchors add to it.",
}
"""What the loss means, by a metric that its kind of run alone has."""

PANELS = (
    Panel("loss", "Loss", "Lower is better.", (("loss", "loss"),)),
    Panel("reward", "Reward", "Of the policy's own videos while it trains, as weighted.", (("reward", "reward"),)),
    Panel(
        "base-distance",
        "Distance to the base",
        "Mean squared distance of the velocities; 0 is the base.",
        (("base_distance", "distance"),),
        0.0,
    ),
    Panel("real-error", "Error on real videos", "Of the anchor; lower fits them better.", (("real_error", "error"),)),
    Panel(
        "implicit-accuracy",
        "Implicit accuracy",
        "Share of pairs the policy orders as the judges did; 0.5 is chance.",
        (("implicit_accuracy", "accuracy"),),
        0.5,
    ),
    Panel(
        "error-gap",
        "Error against the reference",
        "Policy error minus reference error; below zero the policy fits the video better.",
        (("chosen_error_gap", "chosen"), ("rejected_error_gap", "rejected")),
        0.0,
    ),
    Panel("margin", "Margin", "Implicit reward of chosen minus rejected.", (("margin", "margin"),), 0.0),
    Panel("grad-norm", "Gradient norm", "Before clipping.", (("grad_norm", "norm"),)),
)

DIMENSION = "reward/"
"""Before the name of a reward's dimension in the metrics."""
COUNTS = ("reward/failed", "reward/queries")
"""Named as dimensions are, and none."""

# Colours nobody would choose: each is replaced by a CSS variable, so that one drawing serves light and dark pages.
INK, GRID, FIRST, SECOND, BAD = "#010203", "#010204", "#010205", "#010206", "#010207"
_VARIABLES = {INK: "--muted", GRID: "--line", FIRST: "--accent", SECOND: "--second", BAD: "--bad"}


def read_metrics(path: str | Path) -> list[Record]:
    """Read a `metrics.jsonl`, one JSON object a line with `step`, sorted by step.

    A last line cut short by a killed run is left out. Where a resumed run wrote a step again, the later line counts.
    Values that are not numbers are left out of the record.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise ReelignError(
            f"The training metrics {path} cannot be read: {error}.", "Give a run's metrics.jsonl."
        ) from None
    records: dict[float, Record] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = _parse(line)
        except ValueError as error:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            raise ReelignError(
                f"{path}, line {number} is not a metrics record: {error}.",
                'Each line must be one JSON object such as {"step": 1, "loss": 0.69}; mend or delete the line.',
            ) from None
        records[record["step"]] = record
    return [records[step] for step in sorted(records)]


def draw_curves(records: Sequence[Record], panels: Sequence[Panel] | None = None) -> list[Curve]:
    """Draw each panel that has at least one finite value; the rest are left out. None takes those of `panels_of`."""
    curves = []
    for panel in panels_of(records) if panels is None else panels:
        series = [(label, *_series(records, key)) for key, label in panel.lines]
        series = [(label, steps, values) for label, steps, values in series if len(steps)]
        if series:
            curves.append(Curve(panel.name, panel.title, panel.note, _draw(panel, series)))
    return curves


def panels_of(records: Sequence[Record]) -> list[Panel]:
    """What to draw of a run: PANELS, the loss as its kind of run means it, and one for each dimension of its reward.

    A dimension that is the weighted reward itself is not drawn twice.
    """
    keys = dict.fromkeys(key for record in records for key in record)
    note = next((told for key, told in LOSS_NOTES.items() if key in keys), PANELS[0].note)
    own = [key for key in keys if key.startswith(DIMENSION) and key not in COUNTS]
    own = [key for key in own if any(record.get(key) != record.get("reward") for record in records)]
    dimensions = [
        Panel(f"reward-{number}", f"Reward: {name}", "Mean over the videos with a score.", ((key, name),))
        for number, key in enumerate(own)
        for name in [key.removeprefix(DIMENSION)]
    ]
    return [replace(PANELS[0], note=note), PANELS[1], *dimensions, *PANELS[2:]]


def _parse(line: bytes) -> Record:
    record = json.loads(line.decode())
    if not isinstance(record, dict):
        raise ValueError(f"expected an object, got {type(record).__name__}")
    numbers = {k: float(v) for k, v in record.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    if not np.isfinite(numbers.get("step", np.nan)):
        raise ValueError("it has no numeric 'step'")
    return numbers


def _series(records: Sequence[Record], key: str) -> tuple[np.ndarray, np.ndarray]:
    points = [(r["step"], r[key]) for r in records if np.isfinite(r.get(key, np.nan))]
    array = np.array(points, dtype=float).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _draw(panel: Panel, series: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> str:
    def paint(axes: Axes) -> None:
        for colour, (label, steps, values) in zip((FIRST, SECOND), series, strict=False):
            _line(axes, steps, values, colour, label)
        if panel.neutral is not None:
            level_line(axes, panel.neutral)

    return drawing(panel.name, panel.title, paint, legend=len(series) > 1)


def drawing(name: str, title: str, paint: Callable[[Axes], None], *, legend: bool) -> str:
    """An `<svg>` over training steps in the page's look: `paint` draws on its axes in INK, FIRST, SECOND and BAD.

    Args:
        name: unique on its page; it stands before the drawing's ids.
        title: what a reader who cannot see it is told.
    """
    # Text stays text: small files, and the page's own font. The salt makes the same run give the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 13}):
        figure = Figure(figsize=(5.2, 2.9), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.add_subplot()
        paint(axes)
        _dress(axes, legend=legend)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _inline(buffer.getvalue(), name, title)


def level_line(axes: Axes, level: float) -> None:
    """A dashed line at a level that means something."""
    axes.axhline(level, color=INK, linewidth=0.9, linestyle=(0, (4, 4)), zorder=1)


def _line(axes: Axes, steps: np.ndarray, values: np.ndarray, colour: str, label: str) -> None:
    """Single batches are noisy: they are drawn faint, with a running mean over a twentieth of the run on top."""
    window = max(1, len(values) // 20)
    if window > 1:
        axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.28)
    kernel = np.ones(window)
    smooth = np.convolve(values, kernel, mode="same") / np.convolve(np.ones(len(values)), kernel, mode="same")
    axes.plot(steps, smooth, color=colour, linewidth=2, label=label, marker="o" if len(steps) == 1 else None)


def _dress(axes: Axes, *, legend: bool) -> None:
    axes.set_facecolor("none")
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, length=0)
    axes.set_xlabel("step", color=INK)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 4))
    axes.yaxis.get_offset_text().set_color(INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(GRID)
    if legend:
        axes.legend(frameon=False, labelcolor=INK, loc="best", ncols=2)


def _inline(svg: str, name: str, title: str) -> str:
    """Cut a matplotlib document down to an element that can stand in a page beside others of its kind."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Ids are per document, and several drawings share the page.
    svg = re.sub(r'(\bid="|url\(#|href="#)', lambda match: f"{match[0]}{name}-", svg)
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt" ', "", svg, count=1)
    svg = re.sub(r'(width|height)="[\d.]+pt"', "", svg, count=2)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)} over training steps"', 1)
