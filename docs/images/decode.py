"""The picture of docs/decode.md: `python docs/images/decode.py`."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

LATENTS, PIECE, PIXELS, HOST, ALIVE = "#4477aa", "#dddddd", "#ddaa33", "#eeeeee", "#cc6677"
NUM_PIECES = 4
WIDTH, STEP = 1.5, 2.4


def box(axes: Axes, place: tuple[float, float], height: float, text: str, colour: str, width: float = WIDTH) -> None:
    shape = FancyBboxPatch(place, width, height, boxstyle="round,pad=0.04", facecolor=colour, edgecolor="#555555")
    axes.add_patch(shape)
    axes.text(place[0] + width / 2, place[1] + height / 2, text, ha="center", va="center", fontsize=8)


def arrow(axes: Axes, start: tuple[float, float], stop: tuple[float, float], colour: str = "#333333") -> None:
    axes.annotate("", stop, start, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.3})


def draw(axes: Axes, title: str, *, backward: bool) -> None:
    for index in range(NUM_PIECES):
        left, middle = index * STEP, index * STEP + WIDTH / 2
        alive = backward and index == NUM_PIECES - 2
        sign = "∂L/∂" if backward else ""
        box(axes, (left, 0.0), 0.45, f"{sign}latents {index + 1}", "#aaccee")
        box(axes, (left, 1.1), 0.9, f"piece {index + 1}" + ("\nits graph" if alive else ""), ALIVE if alive else PIECE)
        box(axes, (left, 2.65), 0.45, f"{sign}pixels {index + 1}", "#f3dd9a")
        ends = [(middle, 0.5), (middle, 1.05)], [(middle, 2.05), (middle, 2.6)]
        for start, stop in ends:
            arrow(axes, stop, start, ALIVE) if backward else arrow(axes, start, stop)
        if index + 1 < NUM_PIECES:
            here, there = (left + WIDTH + 0.05, 1.55), (left + STEP - 0.05, 1.55)
            arrow(axes, there, here, ALIVE) if backward else arrow(axes, here, there)
            name = f"∂L/∂cache {index + 1}" if backward else f"cache {index + 1}"
            axes.text(left + (WIDTH + STEP) / 2, 1.68, name, ha="center", fontsize=6.5)
            middle_of_gap = left + (WIDTH + STEP) / 2
            box(axes, (middle_of_gap - 0.4, -0.95), 0.35, f"cache {index + 1}", HOST, 0.8)
            low, high = (middle_of_gap, -0.55), (middle_of_gap, 1.5)
            axes.annotate(
                "",
                low if not backward else high,
                high if not backward else low,
                arrowprops={"arrowstyle": "-|>", "color": "#999999", "lw": 0.9, "ls": ":"},
            )
    axes.text(-0.15, -0.78, "host", ha="right", va="center", fontsize=8, color="#777777")
    axes.set_xlim(-0.9, (NUM_PIECES - 1) * STEP + WIDTH + 0.2)
    axes.set_ylim(-1.15, 3.3)
    axes.set_title(title, fontsize=10, loc="left")
    axes.axis("off")


def main() -> None:
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(8.2, 6.6))
    draw(top, "1. Every frame, no gradients: what a piece hands on is kept", backward=False)
    draw(bottom, "2. After the reward's backward pass: last piece first, one graph at a time", backward=True)
    figure.tight_layout()
    figure.savefig(Path(__file__).with_name("decode.png"), dpi=110)


if __name__ == "__main__":
    main()
