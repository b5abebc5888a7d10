"""The watch on reward hacking in the report: what training maximises against what it does not see, step by step."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from PIL import Image
from torch import Tensor

from reelign.evaluation.curves import BAD, FIRST, SECOND, Curve, drawing, level_line
from reelign.training.looks import Look, gain, read_look

FOLDER = "watch"
WIDEST = 900
"""Pixels that a sheet of before and after is wide in the page, at most."""
ABOUT = {"distance": ("Distance to the base", "Mean squared distance of the velocities; 0 is the base.")}
"""Title and note of a measure that is no share of the base's."""


@dataclass(frozen=True, slots=True)
class WatchPanel:
    """What the page shows of a run's watch."""

    looks: int
    """After the base's."""
    alarms: list[tuple[int, list[str]]]
    """Step and what was told at it, in order."""
    stopped: str
    """Why the watch ended the run; '' where it did not."""
    best: int
    """Step of the best look by what training does not see."""
    rewards: list[Curve]
    """Training reward against each held-out one."""
    measures: list[Curve]
    sheets: list[tuple[str, str]]
    """What a picture shows, and the picture as a data URI."""

    @property
    def warning(self) -> str:
        """One sentence for the head of the page; '' without an alarm."""
        if not self.alarms:
            return ""
        step, told = self.alarms[0]
        more = f"; {len(self.alarms) - 1} more looks with an alarm" if len(self.alarms) > 1 else ""
        return f"The watch on reward hacking gave alarm at step {step}: {'; '.join(told)}{more}."


@dataclass(frozen=True, slots=True)
class Line:
    """A quantity over the looks with its interval."""

    label: str
    colour: str
    steps: list[int]
    means: list[float]
    lows: list[float]
    highs: list[float]


def read_watch(run: Path) -> WatchPanel | None:
    """What the watch left in a run's folder; None where it looked at nothing but the base.

    Raises:
        ReelignError: a look cannot be read.
    """
    base_file = run / FOLDER / "base.json"
    kept = [read_look(path) for path in sorted((run / FOLDER).glob("step-*.json"))]
    if not base_file.exists() or len(kept) < 2:
        return None
    base = read_look(base_file)[0]
    looks = [look for look, _ in kept]
    alarms = [(look.step, [alarm["what"] for alarm in further["alarms"]]) for look, further in kept]
    alarms = [(step, told) for step, told in alarms if told]
    steps = [step for step, _ in alarms]
    last = kept[-1][1]
    return WatchPanel(
        looks=len([look for look in looks if look.step]),
        alarms=alarms,
        stopped=last["stopped"] or "",
        best=int(last["best"] or 0),
        rewards=_rewards(looks, base, steps),
        measures=_measures(looks, base, steps),
        sheets=_sheets(run, last["best"] or 0, looks[-1].step),
    )


def _rewards(looks: Sequence[Look], base: Look, alarms: Sequence[int]) -> list[Curve]:
    """Each held-out reward, against the training reward where that has scores."""
    curves = []
    training = [] if base.training is None else [_training(looks, base.training)]
    for number, name in enumerate(base.held_out):
        other = _gains("held out", SECOND, [(look, look.held_out[name]) for look in looks], base.held_out[name])
        note = "Gain over the base in standard deviations of its scores; 95 % intervals over prompts."
        title = f"Training reward and {name}" if training else name
        svg = _drawn(f"watch-reward-{number}", title, [*training, other], [0.0], alarms)
        curves.append(Curve(f"watch-reward-{number}", title, note, svg))
    if training and not curves:
        note = "Gain over the base in standard deviations of its scores. No held-out reward was named."
        svg = _drawn("watch-reward", "Training reward", training, [0.0], alarms)
        curves.append(Curve("watch-reward", "Training reward", note, svg))
    return curves


def _training(looks: Sequence[Look], base: Tensor) -> Line:
    return _gains("training", FIRST, [(look, look.training) for look in looks if look.training is not None], base)


def _measures(looks: Sequence[Look], base: Look, alarms: Sequence[int]) -> list[Curve]:
    curves = []
    for number, name in enumerate(base.proxies):
        before = base.proxies[name]
        mean = float(before.nanmean())
        neutral = 1.0 if mean else 0.0
        scores = [(look, look.proxies[name]) for look in looks]
        line = _gains(name, FIRST, scores, before, abs(mean) or 1.0, start=neutral)
        title, note = ABOUT.get(name, (name.replace("_", " ").capitalize(), "As a share of the base's."))
        svg = _drawn(f"watch-measure-{number}", title, [line], [neutral], alarms)
        curves.append(Curve(f"watch-measure-{number}", title, note, svg))
    return curves


def _gains(
    label: str,
    colour: str,
    scores: Sequence[tuple[Look, Tensor]],
    before: Tensor,
    unit: float | None = None,
    *,
    start: float = 0.0,
) -> Line:
    """`start` and the gain at every look over `before`, in `unit` or standard deviations of `before`; a look that
    could not be scored has no point, and its alarm says so."""
    unit = unit or float(before[before.isfinite()].std(correction=0)) or 1.0
    found = [
        (look.step, gain(values, before, look.clusters))
        for look, values in scores
        if len(set(look.clusters[(values - before).isfinite()].tolist())) > 1
    ]
    return Line(
        label,
        colour,
        [step for step, _ in found],
        [start + each.mean / unit for _, each in found],
        [start + each.low / unit for _, each in found],
        [start + each.high / unit for _, each in found],
    )


def _drawn(name: str, title: str, lines: Sequence[Line], levels: Sequence[float], alarms: Sequence[int]) -> str:
    def paint(axes: Axes) -> None:
        for level in levels:
            level_line(axes, level)
        for step in alarms:
            axes.axvline(step, color=BAD, linewidth=1.4, alpha=0.55, zorder=1)
        for line in lines:
            axes.fill_between(line.steps, line.lows, line.highs, color=line.colour, alpha=0.16, linewidth=0)
            # A dollar would begin a formula.
            label = line.label.replace("$", r"\$")
            axes.plot(line.steps, line.means, color=line.colour, linewidth=2, marker="o", markersize=4, label=label)

    return drawing(name, title, paint, legend=len(lines) > 1)


def _sheets(run: Path, best: int, last: int) -> list[tuple[str, str]]:
    """Base and policy side by side at the best look and at the last, where they are not the base itself."""
    named = {best: "best look", last: "last look"}
    found = []
    for step in sorted(named):
        path = run / "samples" / FOLDER / f"step-{step:06d}.png"
        if path.exists():
            found.append((f"Step {step}, {named[step]}", _picture(path)))
    return found


def _picture(path: Path) -> str:
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
        if picture.width > WIDEST:
            picture = picture.resize((WIDEST, round(picture.height * WIDEST / picture.width)))
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
