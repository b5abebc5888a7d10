"""The picture of docs/reward-gradients.md: `python docs/images/reward_gradient_memory.py`."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

COLOURS = {"sampler": "#4477aa", "decoder": "#cc6677", "reward": "#ddaa33"}
GRAPHS = {"sampler": 2, "decoder": 9}
PLAIN = [
    ("prefix", {}),
    ("last steps", {"sampler": 2}),
    ("decode", GRAPHS),
    ("reward", {**GRAPHS, "reward": 2}),
    ("backward", {**GRAPHS, "reward": 2}),
]
STAGED = [
    ("all steps", {}),
    ("decode", {}),
    ("reward", {"reward": 2}),
    ("piece n", {"decoder": 1}),
    ("…", {"decoder": 1}),
    ("piece 1", {"decoder": 1}),
    ("step N", {"sampler": 1}),
    ("step N-1", {"sampler": 1}),
]
"""What is held through each part of a step, in no unit: which graphs live together, and which never do."""


def draw(axes: Axes, parts: list[tuple[str, dict[str, int]]], title: str) -> None:
    for place, (_, held) in enumerate(parts):
        height = 0.0
        for name, size in held.items():
            axes.bar(place, size, 0.92, height, color=COLOURS[name])
            height += size
    axes.set_xticks(range(len(parts)), [name for name, _ in parts], fontsize=8)
    axes.set_xlim(-0.6, len(parts) - 0.4)
    axes.set_ylim(0, 14)
    axes.set_yticks([])
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_ylabel("activations held", fontsize=8)


def main() -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 2.8), width_ratios=[len(PLAIN), len(STAGED)])
    draw(left, PLAIN, "in one graph")
    draw(right, STAGED, "link by link, the same gradient")
    for name, colour in COLOURS.items():
        right.bar(0, 0, color=colour, label=name)
    right.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(Path(__file__).with_name("reward-gradient-memory.png"), dpi=110)


if __name__ == "__main__":
    main()
