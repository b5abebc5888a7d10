"""A picture of where a reward puts the pairs that people call better, worse and tied."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reelign.evaluation.feedback_pairs import Compared
from reelign.evaluation.feedback_results import Accuracy
from reelign.files import whole

KINDS = ((1.0, "first better", "#2a78b8"), (0.0, "tie", "#9a9a9a"), (-1.0, "second better", "#c8553d"))
BINS = 40


def draw_differences(path: Path, found: Mapping[str, Accuracy], columns: Mapping[str, Compared], reward: str) -> None:
    """Write a PNG: for each dimension the score differences of the pairs by people's verdict, and the tie band.

    A reward that knows ties has them in the middle; one trained without spreads them (Liu et al. 2025, Fig. 3).
    """
    names = [name for name, each in found.items() if each.pairs]
    if not names:
        return
    figure = Figure(figsize=(6.2, 2.6 * len(names) + 0.4), layout="constrained")
    grid = figure.subplots(len(names), 1, squeeze=False)
    for name, axes in zip(names, grid[:, 0], strict=True):
        _panel(axes, columns[name], found[name])
        axes.set_title(_title(name, found[name]), fontsize=10, loc="left")
    grid[0, 0].legend(frameon=False, fontsize=8)
    grid[-1, 0].set_xlabel(f"score of the first less that of the second ({reward})")
    with whole(path) as beside:
        figure.savefig(beside, format="png", dpi=130)


def _panel(axes: Axes, columns: Compared, found: Accuracy) -> None:
    difference, verdict = columns.difference.numpy(), columns.verdict.numpy()
    known = difference[np.isfinite(difference)]
    # A few far pairs would squeeze all others into one bar; they are counted in the outermost.
    reach = max(float(np.quantile(np.abs(known), 0.99)), 1e-9)
    edges = np.linspace(-reach, reach, BINS + 1).tolist()
    for value, label, colour in KINDS:
        own = np.clip(difference[(verdict == value) & np.isfinite(difference)], -reach, reach)
        axes.hist(own, edges, histtype="stepfilled", alpha=0.35, color=colour)
        axes.hist(own, edges, histtype="step", linewidth=1.4, color=colour, label=f"{label} ({len(own)})")
    if 0 < found.threshold <= reach:
        for sign in (-1, 1):
            axes.axvline(sign * found.threshold, color="black", linewidth=0.9, linestyle=(0, (4, 3)))
    axes.set_ylabel("pairs")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _title(name: str, found: Accuracy) -> str:
    shares = (("without ties", found.without_ties.mean), ("with", found.with_ties.mean))
    return f"{name}: " + ", ".join(f"{100 * share:.1f} % {how}" for how, share in shares if share == share)
