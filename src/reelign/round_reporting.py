"""The page of rounds, from what `iterate` left in its run's folder: `report_rounds("workspace", "iterate")`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.evaluation import Comparison, Interval, ReportSample, compare
from reelign.evaluation.round_report import RoundLine, RoundsReport, write_rounds
from reelign.recipes.rounds.checks import LOOKS
from reelign.recipes.rounds.manifest import Record, read_manifest
from reelign.recipes.rounds.state import MANIFEST
from reelign.recipes.rounds.verdicts import beside_base
from reelign.records import Workspace
from reelign.reporting import ranked_samples

PAGE = "rounds.html"
DECIDES = {"selection": "chooses the best round", "report": "is reported and chooses nothing"}


def report_rounds(workspace: str | Path, run: str = "iterate", *, samples: int = 6) -> Path:
    """Write the page of the rounds that are finished; returns it.

    Args:
        workspace: the workspace folder.
        run: the rounds' name.
        samples: pairs of the base and the best round that are shown.
    Raises:
        ReelignError: there are no such rounds, or none of them was looked at yet.
    """
    opened = Workspace.open(workspace)
    folder = opened.root / "runs" / run
    whole = read_manifest(folder / MANIFEST)
    if "best" not in whole:
        raise ReelignError(f"{opened.root} has no rounds {run!r}.", "Run some: reelign iterate -w WORKSPACE")
    used = [which for which in LOOKS if whole["settings"][which]["scorer"]]
    count = len(whole["rounds"])
    looks = {
        which: [read_manifest(folder / f"round-{number}" / f"{which}.json") for number in range(count)]
        for which in used
    }
    seeds = {which: whole["settings"][which]["seeds"] for which in used}
    lines = [_line(folder, number, looks, seeds) for number in range(count)]
    best = whole["best"]["round"]
    shown, fps = _samples(opened, looks[used[-1]], best, seeds[used[-1]], samples) if best else ([], 8.0)
    page = RoundsReport(
        title=f"{run}: {count - 1} round{'s' if count != 2 else ''}",
        model=opened.model,
        headline=_headline(whole, lines[best], used[-1]),
        judges={which: f"({whole['settings'][which]['scorer']}) {DECIDES[which]}" for which in used},
        lines=lines,
        best=best,
        samples=shown,
        fps=fps,
        config={name: whole[name] for name in ("settings", "plans")},
    )
    write_rounds(folder / PAGE, page)
    return folder / PAGE


def _line(folder: Path, number: int, looks: dict[str, list[Record]], seeds: dict[str, int]) -> RoundLine:
    gains, means, failed = {}, {}, 0
    for which, own in looks.items():
        failed += len(own[number]["failed"])
        if number == 0 and "against" in own[0]:  # nothing stands beside itself
            gains[which], means[which] = Interval(0.0, 0.0, 0.0), 0.0
            continue
        found = _compared(own[0], own[number], seeds[which])
        gains[which] = Interval(0.0, 0.0, 0.0) if number == 0 else found.interval
        means[which] = found.aligned
    return RoundLine(
        name=f"round {number}" if number else "base",
        gains=gains,
        means=means,
        what=_what(folder, number),
        failed=failed,
    )


def _what(folder: Path, number: int) -> str:
    """How a round was made, in a line."""
    stages = read_manifest(folder / f"round-{number}.json").get("stages", {})
    if "align" not in stages:
        return ""
    trained, kept = stages["align"], stages["judgements"]["outputs"]
    left = sum(trained["outputs"]["left_out"].values())
    return (
        f"{trained['settings']['objective']['name']}, {trained['outputs']['samples']} samples of "
        f"{kept['judgements']} judgements by {', '.join(kept['judges'])}"
        + (f", {left} left out" if left else "")
        + _judge_of(folder, number)
    )


def _judge_of(folder: Path, number: int) -> str:
    """What became of the judge before a round asked it, in words."""
    before = read_manifest(folder / f"round-{number - 1}.json").get("stages", {})
    if "dependable" not in before:
        return ""
    found = before["dependable"]["outputs"]
    if found["too_few"]:
        return f"; the judge stayed as it was: {found['too_few']}"
    weights = before["refresh"]["outputs"]["weights"]
    return (
        f"; the judge was trained again after round {number - 1}, on {found['judgements']} judgements, "
        f"{found['of_critic']} of them the critic's, to weights {weights}"
    )


def _compared(base: Record, after: Record, seeds: int) -> Comparison:
    before, later = (
        {name: _column(column, seeds) for name, column in scores.items()} for scores in beside_base(base, after)
    )
    return compare(before, later, generator=generator_from("rounds", "bootstrap"))


def _column(values: list[float | None], seeds: int) -> torch.Tensor:
    """(prompts, seeds), NaN where nothing was scored."""
    return torch.tensor([math.nan if value is None else value for value in values]).reshape(-1, seeds)


def _samples(
    workspace: Workspace, looks: list[Record], best: int, seeds: int, count: int
) -> tuple[list[ReportSample], float]:
    base, after = looks[0], looks[best]
    before, later = beside_base(base, after)
    kept: dict[str, Any] = {
        "settings": {"seeds": seeds},
        "base": [each for each in base["videos"] if each is not None],
        "aligned": [each for each in after["videos"] if each is not None],
        "base_scores": {name: _column(column, 1)[:, 0].tolist() for name, column in before.items()},
        "aligned_scores": {name: _column(column, 1)[:, 0].tolist() for name, column in later.items()},
    }
    return ranked_samples(workspace, kept, count)


def _headline(whole: Record, best: RoundLine, which: str) -> str:
    ended = f" Ended: {whole['ended']}." if whole["ended"] else ""
    if not whole["best"]["round"]:
        return f"No round is better than the base by the selection judge, and none is kept.{ended}"
    gain = best.gains[which]
    return (
        f"The best is {best.name}: by the {which} judge {gain.mean:+.3f} over the base, "
        f"95 % interval {gain.low:+.3f} to {gain.high:+.3f}.{ended}"
    )
