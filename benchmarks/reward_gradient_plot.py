"""The pictures of `reward_gradient_evidence.py`: truth by queries and compute, a learned reward climbed, and frames."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from reward_gradient_table import cost, gain, looks, runs_of

from reelign.files import whole
from reelign.records import Workspace
from reelign.video import contact_sheet, read_video

COLOURS = {
    "k1": "#9ecae1",
    "k2": "#4292c6",
    "k5": "#08306b",
    "renoised": "#74a9a3",
    "refl": "#d7813a",
    "online-dpo": "#7a4fa0",
    "offline-dpo": "#9a9a9a",
    "learned": "#c8553d",
    "learned-reference": "#2a78b8",
    "learned-data": "#4f9a57",
    "learned-cap": "#b08d2e",
}
"""Of the runs that are drawn; the others differ from these too little to be told apart."""


SHOWN = ("k5", "learned", "learned-reference")
"""Runs whose frames are shown beside the base's."""
PROMPTS, FRAMES = 3, 6
"""That are shown."""


def draw(folder: Path, arms: Mapping[str, tuple[str, bool]], path: Path) -> None:
    """Write a PNG of what the seeds' folders hold; lines are means over the training seeds at the looks.

    Args:
        folder: of the seeds.
        arms: run to what it is and whether its reward is learned.
    """
    done = {run: found for run in arms if run in COLOURS and (found := runs_of(folder, run))}
    figure = Figure(figsize=(11.5, 4.3), layout="constrained")
    queries, minutes, learned = figure.subplots(1, 3)
    for run, folders in done.items():
        name, is_learned = arms[run]
        if is_learned:
            _climb(learned, folders, name, COLOURS[run])
        else:
            _against(queries, folders, "queries", 1.0, name, COLOURS[run])
            _against(minutes, folders, "seconds", 1 / 60, name, COLOURS[run])
    for axes, label in (
        (queries, "videos that the reward scored"),
        (minutes, "minutes of training, one core"),
        (learned, "step of ReFL on a learned reward"),
    ):
        _finish(axes, label)
    queries.set_ylabel("gain of the true reward, unseen prompts")
    figure.legend(*queries.get_legend_handles_labels(), frameon=False, fontsize=8, loc="outside lower left", ncols=4)
    if learned.get_legend_handles_labels()[1]:
        learned.legend(frameon=False, fontsize=7, title="solid the truth, dashed the learned reward", title_fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as beside:
        figure.savefig(beside, format="png", dpi=130)


def draw_frames(folder: Path, arms: Mapping[str, tuple[str, bool]], path: Path) -> None:
    """Write a PNG of frames of some held-out prompts from the same noise: the base's and those of `SHOWN`, first seed.

    Nothing where one of these runs is not asked for or not evaluated, or only the study's numbers are at hand.
    """
    own = folder / "seed-0"
    results = [own / "runs" / run / "evaluation-held_out.json" for run in SHOWN]
    if not set(SHOWN) <= set(arms) or not all(each.exists() for each in (*results, own / "reelign.db")):
        return
    workspace = Workspace.open(own)
    videos = {video.id: video for video in workspace.videos("held_out")}
    texts = {prompt.id: prompt.text for prompt in workspace.prompts("held_out")}
    told = [json.loads(each.read_text()) for each in results]
    names = ["base", *(arms[run][0] for run in SHOWN)]
    clips, labels = [], []
    count = len(told[0]["base"])
    for row in range(0, count, count // PROMPTS)[:PROMPTS]:
        made = [told[0]["base"][row], *(each["aligned"][row] for each in told)]
        for name, one in zip(names, made, strict=True):
            clips.append(read_video(workspace.video_path(videos[one])).frames)
            labels.append(f"{texts[videos[one].prompt_id]} | {name}")
    contact_sheet(torch.stack(clips), labels, frames=FRAMES, scale=2).save(path)


def _against(axes: Axes, folders: Sequence[Path], unit: str, scale: float, name: str, colour: str) -> None:
    """A line over the looks, and at its end what the evaluation found, with its interval."""
    spent = cost(folders)
    end = (spent.queries if unit == "queries" else spent.seconds) * scale
    found = gain(folders, "held_out")
    x, y = _mean([looks(each) for each in folders], unit, "truth")
    axes.plot([each * scale for each in x], y, color=colour, linewidth=1.6, label=name)
    axes.errorbar([end], [found.mean], [[found.mean - found.low], [found.high - found.mean]], fmt="o", color=colour)


def _climb(axes: Axes, folders: Sequence[Path], name: str, colour: str) -> None:
    seen = [looks(each) for each in folders]
    for what, style, label in (("truth", "-", name), ("training", "--", None)):
        x, y = _mean(seen, "step", what)
        axes.plot(x, y, style, color=colour, linewidth=1.6, label=label)


def _mean(seen: Sequence[Sequence[Mapping[str, float]]], along: str, what: str) -> tuple[list[float], list[float]]:
    """Place by place over the seeds, from a beginning without cost or gain; nothing for runs without looks."""
    places = list(zip(*seen, strict=True))
    if not places:
        return [], []
    mean = [[sum(own[name] for own in place) / len(place) for name in (along, what)] for place in places]
    return [0.0, *(each[0] for each in mean)], [0.0, *(each[1] for each in mean)]


def _finish(axes: Axes, label: str) -> None:
    axes.axhline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
    axes.set_xlabel(label)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
