"""The tables of `reward_gradient_evidence.py`, between two markers of a page, from what the seeds' folders hold."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from evidence_table import RESAMPLES, differences, place

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.records.bootstrap import Interval, paired_bootstrap

CANDIDATES = "candidates.json"
"""In a seed's folder: how many videos were judged for the runs that learn from finished ones."""
POINTS = (120, 240, 480, 720, 1440)
"""Reward queries at which runs are compared: the last look within them."""


def write_tables(folder: Path, arms: Mapping[str, tuple[str, bool]], page: Path) -> None:
    """Put the tables into the page, in place of what is there.

    Args:
        folder: of the seeds.
        arms: run to what it is and whether its reward is learned, in the tables' order.
        page: has the two markers.
    Raises:
        ReelignError: nothing is evaluated yet, or the page has no markers.
    """
    put = place(page, "reward gradients")
    done = {run: runs_of(folder, run) for run in arms}
    if not any(done.values()):
        raise ReelignError(f"{folder} holds no evaluated run.", "Run some arms first.")
    parts = [_head(), _ends(arms, done), _curves(arms, done), _hacking(arms, done)]
    put([part for part in parts if part])


def runs_of(folder: Path, run: str) -> list[Path]:
    """Folders of the run's evaluated seeds."""
    return [path.parent for path in sorted(folder.glob(f"seed-*/runs/{run}/evaluation-train.json"))]


def looks(run: Path) -> list[dict[str, float]]:
    """Of each look: `step`, `queries` and `seconds` so far, and the `truth` and the `training` reward above the base's.

    The seconds are those of training: a step's are taken before the look behind it. A run without looks, such as
    offline DPO's, has none.
    """
    base = run / "watch" / "base.json"
    if not base.exists():
        return []
    found, seconds = [], 0.0
    first: dict[str, float] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        told = json.loads(line)
        seconds += told["seconds"]
        truth = true_name(told, "watch/")
        if truth is None:
            continue
        training = next(value for name, value in told.items() if name.startswith("watch/training/"))
        first = first or base_means(base)
        queries = told.get("reward/queries", told.get("online/candidates", float("nan")))
        found.append(
            {
                "step": told["step"],
                "queries": queries,
                "seconds": seconds,
                "truth": told[truth] - first["truth"],
                "training": training - first["training"],
            }
        )
    return found


def true_name(names: Iterable[str], before: str = "") -> str | None:
    """Of the true mean score: what training does not see where its reward is learned, else the one that it climbs."""
    there = [name for name in names if name.startswith(f"{before}held_out/") and name.endswith("/overall")]
    there += [name for name in names if name == f"{before}training/overall"]
    return there[0] if there else None


def base_means(path: Path) -> dict[str, float]:
    """The base's mean true score and training reward at the watch's prompts."""
    scores: dict[str, list[float | None]] = json.loads(path.read_text())["scores"]

    def mean(name: str) -> float:
        values = [each for each in scores[name] if each is not None]
        return sum(values) / len(values)

    truth = true_name(scores)
    assert truth is not None, f"the base's look {path} has no true score"
    return {"truth": mean(truth), "training": mean(next(name for name in scores if name.startswith("training/")))}


def _head() -> str:
    return (
        f"Written by `benchmarks/reward_gradient_evidence.py` on {time.strftime('%Y-%m-%d')}. A gain is the change of "
        "the true mean score, base and aligned under the same noise; in brackets its 95 % interval over prompts, the "
        "training seeds' videos taken together. Queries are the videos that the reward scored."
    )


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a run, the mean over its seeds."""

    queries: float
    """Videos that the reward scored."""
    seconds: float
    """Of training; where it learns from finished candidates, of making and judging them too."""


def cost(folders: Sequence[Path]) -> Cost:
    """What the runs in these folders, one of each seed, took."""
    found = []
    for each in folders:
        told = [json.loads(line) for line in (each / "metrics.jsonl").read_text().splitlines()]
        seconds = sum(line["seconds"] for line in told)
        queries = told[-1].get("reward/queries", told[-1].get("online/candidates"))
        if queries is None:
            queries, before = _candidates(each.parent.parent)
            seconds += before
        found.append((queries, seconds))
    queries, seconds = (sum(each) / len(found) for each in zip(*found, strict=True))
    return Cost(queries, seconds)


def _candidates(seed: Path) -> tuple[int, float]:
    """How many videos of the base were judged in a seed's workspace, and the seconds of making and judging them."""
    count: int = json.loads((seed / CANDIDATES).read_text())["judged"]
    stages = [json.loads(line) for line in (seed / "costs.jsonl").read_text().splitlines()]
    return count, sum(each["seconds"] for each in stages if each["stage"] in ("generate", "judge"))


def gain(folders: Sequence[Path], split: str) -> Interval:
    """The change of the true mean score on prompts of a split, the videos of the runs in these folders together."""
    results: list[dict[str, Any]] = [json.loads((each / f"evaluation-{split}.json").read_text()) for each in folders]
    pooled = torch.cat([differences(result, "mean") for result in results], dim=1)
    return paired_bootstrap(pooled, resamples=RESAMPLES, generator=generator_from(0, "reward gradients", split))


def _ends(arms: Mapping[str, tuple[str, bool]], done: Mapping[str, Sequence[Path]]) -> str:
    rows = [["arm", "seeds", "queries", "minutes", "unseen prompts", "trained prompts"]]
    for run, folders in done.items():
        if folders:
            spent = cost(folders)
            gains = (gain(folders, split) for split in ("held_out", "train"))
            told = (f"{each.mean:+.3f} [{each.low:+.3f}, {each.high:+.3f}]" for each in gains)
            rows.append([arms[run][0], str(len(folders)), f"{spent.queries:.0f}", f"{spent.seconds / 60:.1f}", *told])
    return _table(rows, left=1)


def _curves(arms: Mapping[str, tuple[str, bool]], done: Mapping[str, Sequence[Path]]) -> str:
    """True gain at unseen prompts after so many queries, of the arms that climb the true reward."""
    rows = [["true gain after queries", *(str(point) for point in POINTS)]]
    for run, folders in done.items():
        seen = [each for each in map(looks, folders) if each]
        if not seen or arms[run][1]:
            continue
        cells = [_at(seen, point) for point in POINTS]
        rows.append([arms[run][0], *cells])
    return _table(rows, left=1) if len(rows) > 1 else ""


def _at(seen: Sequence[Sequence[Mapping[str, float]]], point: int) -> str:
    """The mean over seeds of the last look within so many queries; nothing for runs that ended before."""
    values = []
    for own in seen:
        within = [look for look in own if look["queries"] <= point]
        if within and own[-1]["queries"] >= point:
            values.append(within[-1]["truth"])
    return f"{sum(values) / len(values):+.3f}" if values else "–"


def _hacking(arms: Mapping[str, tuple[str, bool]], done: Mapping[str, Sequence[Path]]) -> str:
    """What the learned reward and the truth did."""
    rows = [["learned reward", "it rose by", "truth at its best look", "step", "truth at the end"]]
    for run, folders in done.items():
        seen = [each for each in map(looks, folders) if each]
        if not seen or not arms[run][1]:
            continue
        best = [max(range(len(own)), key=lambda place, own=own: own[place]["truth"]) for own in seen]
        tops = [own[place]["truth"] for own, place in zip(seen, best, strict=True)]
        parts = [own[-1]["training"] for own in seen], tops, [own[-1]["truth"] for own in seen]
        rose, top, end = (f"{sum(each) / len(each):+.3f}" for each in parts)
        when = f"{sum(best) / len(best) + 1:.1f} of {len(seen[0])} looks"
        rows.append([arms[run][0], rose, top, when, end])
    return _table(rows, left=1) if len(rows) > 1 else ""


def _table(rows: Sequence[Sequence[str]], *, left: int) -> str:
    lines = [rows[0], ["---"] * left + ["---:"] * (len(rows[0]) - left), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
