"""The table of `long_rollouts_evidence.py`, between two markers of a page, and its picture of joints."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from evidence_table import RESAMPLES, place
from small_i2v import FRAMES, SEGMENTS, passages
from small_vjepa import WINDOW
from torch import Tensor

from reelign import stages
from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.records import Workspace
from reelign.records.bootstrap import paired_bootstrap
from reelign.rewards.vjepa2 import VJEPA2Consistency
from reelign.spriteworld.prompts import held_out_captions
from reelign.video import contact_sheet, read_video
from reelign.video.long_clips import LongClip

MEASURED = "joints.json"
UNITS = {"kick": "px", "turn": "px a frame", "tint": ""}
SHOWN = 4
"""Prompts in the picture."""


def write_table(folder: Path, arms: Mapping[str, str], page: Path) -> None:
    """Put the tables into the page, in place of what is there.

    Args:
        folder: of models and seeds.
        arms: run to what it is, in the table's order.
        page: has the two markers.
    Raises:
        ReelignError: nothing is measured yet, or the page has no markers.
    """
    put = place(page, "long rollouts")
    found = {run: results_of(folder, run) for run in arms}
    found = {run: results for run, results in found.items() if results}
    if not found:
        raise ReelignError(f"{folder} holds no measured run.", "Run some arms first.")
    parts = [_head(folder, found), _models(folder), _rows(folder, arms, found)]
    put(parts)


def results_of(folder: Path, run: str) -> dict[int, dict[str, Any]]:
    """Training seed to what was measured of that run."""
    paths = sorted(folder.glob(f"seed-*/runs/{run}/{MEASURED}"))
    return {int(path.parents[2].name.removeprefix("seed-")): json.loads(path.read_text()) for path in paths}


def _head(folder: Path, found: Mapping[str, Mapping[int, Any]]) -> str:
    one = next(iter(next(iter(found.values())).values()))
    prompts, videos = one["prompts"], len(next(iter(one["base"].values()))) // one["prompts"]
    where = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    costs = [json.loads(line) for path in folder.rglob("costs.jsonl") for line in path.read_text().splitlines()]
    hours = sum(cost["seconds"] for cost in costs) / 3600
    return (
        f"Written by `benchmarks/long_rollouts_evidence.py` on {time.strftime('%Y-%m-%d')} ({where}, shared with other "
        f"work; {hours:.1f} hours of wall clock in all). The base's column is its mean; an arm's is its change on the "
        f"same {prompts} held-out prompts with images, {videos} videos each, under the same noise, with its 95 % "
        "interval over prompts, the training seeds' videos taken together; in parentheses how many of the seeds moved "
        "this way. *Rendered* is what the measures say of the world's own clips. Of the jumps less is better, of the "
        "others more."
    )


def _models(folder: Path) -> str:
    check: dict[str, float] = json.loads((folder / "i2v" / "check.json").read_text())
    ranks: dict[str, float] = json.loads((folder / "vjepa" / "ranks.json").read_text())
    told = ", ".join(f"{name} {value:.2f}" for name, value in ranks.items())
    return (
        f"The image-to-video model, a clip of each held-out caption: the first frame is off by {check['first']:.3f} in "
        f"the mean, the shape's colour in the last by {check['colour']:.2f} and the background's by "
        f"{check['ground']:.2f}, and in the second frame the shape stands {check['place']:.1f} px from where it was "
        f"given; VQ {check['VQ']:.2f}, MQ {check['MQ']:.2f}, TA {check['TA']:.2f} (rendered "
        f"{check['rendered VQ']:.2f}, {check['rendered MQ']:.2f}, {check['rendered TA']:.2f}); "
        f"{check['colours right']:.2f} of colours, {check['shapes right']:.2f} of shapes and "
        f"{check['motions right']:.2f} of motions are right. The small V-JEPA 2 puts a smooth clip above its broken "
        f"twin, by what was broken: {told} (0.5 is chance)."
    )


def _rows(folder: Path, arms: Mapping[str, str], found: Mapping[str, Mapping[int, Any]]) -> str:
    first = next(iter(found.values()))
    names = list(next(iter(first.values()))["base"])
    ideal = rendered(folder)
    lines = [["", "rendered", "base", *(f"{arms[run]} ({len(found[run])})" for run in found)]]
    lines.append(["---", *["---:"] * (len(lines[0]) - 1)])
    for name in names:
        base = torch.tensor([result["base"][name] for result in first.values()]).mean()
        cells = [_change(results, name) for results in found.values()]
        lines.append([_told(name), f"{ideal[name]:.3f}", f"{float(base):.3f}", *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _told(name: str) -> str:
    what, _, where = name.rpartition(" ")
    if where in ("over", "inside"):
        unit = f", {UNITS[what]}" if UNITS.get(what) else ""
        return f"{what} {'over joints' if where == 'over' else 'inside segments'}{unit}"
    return f"{what} of segment {where}"


def _change(results: Mapping[int, Mapping[str, Any]], name: str) -> str:
    """Aligned less base, with its interval over prompts, and how many seeds agree with its sign."""
    differences = [_difference(result, name) for result in results.values()]
    pooled = torch.cat(differences, dim=1)
    found = paired_bootstrap(pooled, resamples=RESAMPLES, generator=generator_from(0, "long rollouts", name))
    agreeing = sum(float(each.mean()) * found.mean > 0 for each in differences)
    sure = "**" if found.low > 0 or found.high < 0 else ""
    return f"{sure}{found.mean:+.3f}{sure} [{found.low:+.3f}, {found.high:+.3f}] ({agreeing} of {len(results)})"


def _difference(result: Mapping[str, Any], name: str) -> Tensor:
    """(prompts, videos)."""
    after, before = (torch.tensor(result[side][name]) for side in ("aligned", "base"))
    return (after - before).reshape(result["prompts"], -1)


def rendered(folder: Path) -> dict[str, float]:
    """What the measures say of the world's own long clips."""
    from long_measures import measures

    eyes = VJEPA2Consistency(model=str(folder / "vjepa"), frames=WINDOW, num_masks=4, seed=1)
    texts = list(held_out_captions())
    clips = passages(texts, torch.Generator().manual_seed(5))
    return {name: float(value.mean()) for name, value in measures(clips, texts, eyes).items()}


def draw_joints(folder: Path, arms: Mapping[str, str], path: Path) -> None:
    """The frames over the last joint of some held-out videos of the first seed, of the base and of each arm."""
    seeds = sorted(folder.glob("seed-*"))
    done = {run: what for run, what in arms.items() if (seeds[0] / "runs" / run / MEASURED).exists()}
    workspace = Workspace.open(seeds[0])
    told = {run: json.loads((seeds[0] / "runs" / run / stages.EVALUATION).read_text()) for run in done}
    videos = {video.id: video for video in workspace.videos("held_out")}
    texts = {prompt.id: prompt.text for prompt in workspace.prompts("held_out")}
    window = LongClip(SEGMENTS, FRAMES).over_joints(WINDOW)[-1]
    count = len(next(iter(told.values()))["base"])
    clips, labels = [], []
    for row in range(0, count, count // SHOWN)[:SHOWN]:
        rows = [("base", next(iter(told.values()))["base"][row])]
        rows += [(what, told[run]["aligned"][row]) for run, what in done.items()]
        for what, one in rows:
            clips.append(read_video(workspace.video_path(videos[one])).frames[window])
            labels.append(f"{texts[videos[one].prompt_id]}: {what}")
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(torch.stack(clips), labels, frames=WINDOW, scale=2).save(path)
