"""The weights explorer: one HTML page with a grid of videos over two weights of reward guidance, playing in step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
from torch import Tensor

from reelign.errors import ReelignError
from reelign.evaluation.report import data_uri
from reelign.files import write_text


@dataclass(frozen=True, kw_only=True, slots=True)
class Exploration:
    """Videos of one prompt and seed under every combination of two weights, row by row."""

    prompt: str
    model: str
    seed: int
    rows: tuple[str, tuple[float, ...]]
    """A dimension and its weights, down the page."""
    columns: tuple[str, tuple[float, ...]]
    """Another one, across."""
    fixed: Mapping[str, float] = field(default_factory=dict)
    """Weights that all videos share."""
    videos: Tensor
    """(rows · columns, F, 3, H, W) in [0, 1]."""
    rewards: Mapping[str, Tensor]
    """(rows · columns,) by dimension, of the latent reward that guided."""
    scores: Mapping[str, Tensor] = field(default_factory=dict)
    """The same of a judge that guided nothing."""
    fps: float


def write_explorer(path: str | Path, exploration: Exploration) -> None:
    """Write the page, whole or not at all.

    Raises:
        ReelignError: the page cannot be written.
    """
    page = render_explorer(exploration)
    try:
        write_text(Path(path), page)
    except OSError as error:
        raise ReelignError(f"{path} cannot be written: {error}.", "Give another place: --out FILE.html") from None


def render_explorer(exploration: Exploration) -> str:
    """The page as one string."""
    height, width = len(exploration.rows[1]), len(exploration.columns[1])
    if len(exploration.videos) != height * width:
        raise ValueError(f"{height} by {width} weights need as many videos, got {len(exploration.videos)}")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reelign.evaluation"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def numbers(values: Mapping[str, Tensor], place: int) -> list[tuple[str, float]]:
        return [(name, float(each[place])) for name, each in values.items()]

    cells = [
        [
            {
                "video": data_uri(exploration.videos[place], exploration.fps),
                "weights": f"{exploration.rows[0]} {weight:g}, {exploration.columns[0]} {other:g}",
                "rewards": numbers(exploration.rewards, place),
                "scores": numbers(exploration.scores, place),
            }
            for column, other in enumerate(exploration.columns[1])
            for place in [row * width + column]
        ]
        for row, weight in enumerate(exploration.rows[1])
    ]
    return environment.get_template("explorer.html.j2").render(exploration=exploration, cells=cells)
