"""A run's `result.json` and `report.html`, from what its stages left in the workspace."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from reelign.costs import read_costs, seconds_per_stage
from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.evaluation import Comparison, Interval, Measure, Report, ReportSample, compare, write_report
from reelign.evaluation.watch_panel import read_watch
from reelign.files import write_text
from reelign.opening import finished_runs, run_config, run_folder
from reelign.records import Video, Workspace
from reelign.stages import EVALUATION
from reelign.video import read_video

T = TypeVar("T")

RESULT = "result.json"
REPORT = "report.html"
PACKAGES = ("reelign", "torch", "diffusers", "transformers", "peft", "accelerate", "av")


@dataclass(frozen=True, slots=True)
class Control:
    """A run that should not gain, beside the one that should."""

    run: str
    what: str
    gain: Interval


def report(workspace: str | Path, *, run: str = "align", samples: int = 9) -> Path:
    """Write an evaluated run's `result.json` and self-contained `report.html`; returns the page.

    Args:
        workspace: the workspace folder.
        run: an evaluated run. Runs on the same data that are controls by their settings stand beside it.
        samples: pairs shown before and after, at even ranks of their gain.
    """
    opened = Workspace.open(workspace)
    folder = run_folder(opened, run)
    kept, config = read_evaluation(folder), run_config(folder)
    comparison, controls = comparison_of(kept), controls_of(opened, folder)
    costs = read_costs(opened.root, {run, *(control.run for control in controls)})
    seconds = seconds_per_stage(costs, run)
    peak = max((cost.peak_memory_bytes for cost in costs), default=None)
    result = {**_findings(comparison, kept, controls), "seconds": seconds, "peak_memory_bytes": peak}
    shown, fps = ranked_samples(opened, kept, samples)
    page = Report(
        title=f"{run}: base and aligned",
        model=opened.model,
        comparison=comparison,
        prompts=compared_prompts(opened, kept),
        samples=shown,
        fps=fps,
        curves=folder / "metrics.jsonl",
        config=config,
        versions=versions(),
        seeds={"training": config["align"]["seed"], "evaluation": kept["settings"]["seed"]},
        stages=seconds,
        peak_memory_bytes=peak,
        measures=[Measure(name=name, base=base, aligned=aligned) for name, (base, aligned) in kept["measures"].items()],
        controls=[(f"{control.run}: {control.what}", control.gain) for control in controls],
        watch=read_watch(folder),
    )
    # The large file first: where the disk is full, neither of the two is replaced.
    write_report(folder / REPORT, page)
    write_text(folder / RESULT, json.dumps(result, indent=2) + "\n")
    return folder / REPORT


def read_evaluation(folder: Path) -> dict[str, Any]:
    """The numbers that `evaluate` kept in the run's folder."""
    path = folder / EVALUATION
    if not path.exists():
        raise ReelignError(
            f"The run {folder.name} was not evaluated yet.",
            f"Evaluate it: reelign evaluate -w WORKSPACE run={folder.name}",
        )
    kept: dict[str, Any] = json.loads(path.read_text())
    return kept


def comparison_of(kept: dict[str, Any]) -> Comparison:
    """The comparison behind kept scores: the bootstrap is seeded, so these are the very numbers of the evaluation."""
    settings = kept["settings"]
    shape = (-1, settings["seeds"])
    base, aligned = (
        {name: torch.tensor(values).reshape(shape) for name, values in kept[key].items()}
        for key in ("base_scores", "aligned_scores")
    )
    chance = generator_from(settings["seed"], "bootstrap")
    return compare(base, aligned, tie=settings["tie"], resamples=settings["resamples"], generator=chance)


def controls_of(workspace: Workspace, folder: Path) -> list[Control]:
    """The evaluated runs that should not gain where this one does: same model, same data, same evaluation."""
    config, settings = run_config(folder), read_evaluation(folder)["settings"]
    if _control(config):
        return []
    found = []
    for other in finished_runs(workspace):
        theirs = run_config(other)
        what = _control(theirs)
        if not what or any(theirs[key] != config[key] for key in ("model", "data")):
            continue
        if (other / EVALUATION).exists() and {**read_evaluation(other)["settings"], "run": folder.name} == settings:
            found.append(Control(other.name, what, comparison_of(read_evaluation(other)).interval))
    return found


def versions() -> dict[str, str]:
    """What this ran on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def recorded_videos(workspace: Workspace, ids: Sequence[str]) -> list[Video]:
    """The records of these videos, in this order."""
    known = {video.id: video for video in workspace.videos()}
    return [known[key] for key in ids]


def compared_prompts(workspace: Workspace, kept: dict[str, Any]) -> list[str]:
    """The prompts of an evaluation in the order of its scores."""
    text = {prompt.id: prompt.text for prompt in workspace.prompts()}
    both = recorded_videos(workspace, [*kept["base"], *kept["aligned"]])
    return [text[key] for key in dict.fromkeys(video.prompt_id for video in both)]


def evenly(items: Sequence[T], count: int) -> list[T]:
    """`count` items spread over the whole list, not picked by their scores: what one sees is what there is."""
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def _control(config: dict[str, Any]) -> str:
    """Why a run is a control; '' for one that is none."""
    settings = config["align"]
    if settings.get("swap"):
        return "chosen and rejected swapped"
    return "SFT on random own samples" if settings.get("objective", {}).get("on") == "random" else ""


def _findings(comparison: Comparison, kept: dict[str, Any], controls: list[Control]) -> dict[str, Any]:
    return {
        "gain": comparison.gain,
        "low": comparison.low,
        "high": comparison.high,
        "win_rate": comparison.win.rate,
        "win": comparison.as_dict()["win"],
        "dimensions": comparison.as_dict()["dimensions"],
        "measures": kept["measures"],
        "failed": kept["failed"],
        "controls": {
            control.run: {
                "what": control.what,
                "gain": control.gain.mean,
                "low": control.gain.low,
                "high": control.gain.high,
            }
            for control in controls
        },
    }


def ranked_samples(workspace: Workspace, kept: dict[str, Any], count: int) -> tuple[list[ReportSample], float]:
    """Pairs at even ranks of the gain, from the largest gain to the largest loss, and the frame rate."""
    text = {prompt.id: prompt.text for prompt in workspace.prompts()}
    base, aligned = (
        {(video.prompt_id, video.index): video for video in recorded_videos(workspace, kept[side])}
        for side in ("base", "aligned")
    )
    prompts = list(dict.fromkeys(prompt for prompt, _ in (*base, *aligned)))
    row = {cell: prompts.index(cell[0]) * kept["settings"]["seeds"] + cell[1] for cell in base if cell in aligned}
    gains = {cell: _gain(kept, row[cell]) for cell in row}
    ranked = sorted((cell for cell in row if not math.isnan(gains[cell])), key=lambda cell: -gains[cell])
    shown = [
        ReportSample(
            prompt=text[cell[0]],
            seed=base[cell].seed,
            base=read_video(workspace.video_path(base[cell])).frames,
            aligned=read_video(workspace.video_path(aligned[cell])).frames,
            base_scores={name: values[row[cell]] for name, values in kept["base_scores"].items()},
            aligned_scores={name: values[row[cell]] for name, values in kept["aligned_scores"].items()},
        )
        for cell in _at_even_ranks(ranked, count)
    ]
    return shown, next(iter(base.values())).fps


def _gain(kept: dict[str, Any], row: int) -> float:
    """Of one pair, in the mean over its dimensions; NaN where one was not scored."""
    names = kept["base_scores"].keys() & kept["aligned_scores"].keys()
    gains = [float(kept["aligned_scores"][name][row] - kept["base_scores"][name][row]) for name in names]
    return sum(gains) / len(gains)


def _at_even_ranks(items: Sequence[T], count: int) -> list[T]:
    """The first, the last and `count - 2` between them; of fewer items all."""
    if count >= len(items) or count < 2:
        return list(items[: max(count, 0)])
    return [items[round(index * (len(items) - 1) / (count - 1))] for index in range(count)]
