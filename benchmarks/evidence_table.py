"""The table of `evidence.py`, between two markers of a page, from what the seeds' folders hold."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.records.bootstrap import paired_bootstrap


def markers(name: str) -> tuple[str, str]:
    """What stands before and behind a table in a page."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


MATCHED = "-matched"
RESAMPLES = 2000


def place(page: Path, name: str) -> Callable[[Sequence[str]], None]:
    """What puts tables and sentences between the page's markers of this name, in place of what is there.

    Raises:
        ReelignError: the page has no markers.
    """
    text, (begin, end) = page.read_text(), markers(name)
    if begin not in text or end not in text:
        raise ReelignError(f"{page} has no place for the table.", f"Put {begin} and {end} where it shall stand.")
    before, after = text[: text.index(begin) + len(begin)], text[text.index(end) :]
    return lambda parts: write_text(page, "\n\n".join([before, *parts, after]))


def write_table(
    folder: Path, arms: Mapping[str, str], page: Path, *, name: str = "evidence", script: str = "evidence.py"
) -> None:
    """Put the table into the page, in place of the one that is there.

    Args:
        folder: of the seeds.
        arms: name to what it is, in the table's order.
        page: has the two markers `<!-- NAME: begin -->` and `<!-- NAME: end -->`.
        name: of the markers.
        script: that made it.
    Raises:
        ReelignError: nothing is evaluated yet, or the page has no markers.
    """
    put = place(page, name)
    found = {run: results_of(folder, run) for arm in arms for run in (arm, arm + MATCHED)}
    found = {run: results for run, results in found.items() if results}
    if not found:
        raise ReelignError(f"{folder} holds no evaluated run.", "Run some arms first.")
    put([_head(folder, found, script), _rows(arms, found)])


def results_of(folder: Path, run: str) -> dict[int, dict[str, Any]]:
    """Training seed to the numbers of that run's evaluation."""
    paths = sorted(folder.glob(f"seed-*/runs/{run}/evaluation.json"))
    found = {}
    for path in paths:
        found[int(path.parents[2].name.removeprefix("seed-"))] = {**json.loads(path.read_text()), **_last(path.parent)}
    return found


def _last(run: Path) -> dict[str, float]:
    """A run's drift at its end: on candidates where checkpoints were measured on them, else as it logged it itself."""
    drift, log = run / "drift.json", run / "metrics.jsonl"
    if drift.exists():
        return {"drift": list(json.loads(drift.read_text()).values())[-1]}
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    known = [row["base_distance"] for row in rows if "base_distance" in row]
    return {"drift": known[-1]} if known else {}


def differences(result: Mapping[str, Any], dimension: str) -> Tensor:
    """Aligned minus base of every video, (prompts, videos); `mean` is that of the dimensions."""
    names = list(result["base_scores"]) if dimension == "mean" else [dimension]
    after, before = (torch.tensor([result[side][name] for name in names]) for side in ("aligned_scores", "base_scores"))
    return (after - before).mean(dim=0).reshape(result["comparison"]["prompts"], -1)


def _head(folder: Path, found: Mapping[str, Mapping[int, Any]], script: str) -> str:
    one = next(iter(next(iter(found.values())).values()))["comparison"]
    where = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    costs = [json.loads(line) for path in folder.glob("seed-*/costs.jsonl") for line in path.read_text().splitlines()]
    hours = sum(cost["seconds"] for cost in costs) / 3600
    return (
        f"Written by `benchmarks/{script}` on {time.strftime('%Y-%m-%d')} ({where}; {hours:.1f} hours in all). "
        f"A gain is the change of the true reward on {one['prompts']} held-out prompts, {one['seeds']} videos each, "
        "base and aligned under the same noise; in brackets its 95 % interval over prompts, the training seeds' videos "
        "taken together; ± is the standard deviation over training seeds. Drift is the mean squared distance of the "
        "velocity to the base's, of online runs on their own last samples."
    )


def _rows(arms: Mapping[str, str], found: Mapping[str, Mapping[int, Any]]) -> str:
    dimensions = list(next(iter(next(iter(found.values())).values()))["base_scores"])
    header = ["arm", "seeds", "mean", "±", *dimensions, "drift"]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for run, results in found.items():
        what = arms[run.removesuffix(MATCHED)] + (" at matched drift" if run.endswith(MATCHED) else "")
        each = [float(differences(result, "mean").nanmean()) for result in results.values()]
        spread = f"{torch.tensor(each).std():.3f}" if len(each) > 1 else "–"
        gains = [_gain(results, name) for name in ("mean", *dimensions)]
        lines.append([what, str(len(each)), f"**{gains[0]}**", spread, *gains[1:], _drift(results)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _gain(results: Mapping[int, Mapping[str, Any]], dimension: str) -> str:
    pooled = torch.cat([differences(result, dimension) for result in results.values()], dim=1)
    found = paired_bootstrap(pooled, resamples=RESAMPLES, generator=generator_from(0, "evidence", dimension))
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _drift(results: Mapping[int, Mapping[str, Any]]) -> str:
    last: Sequence[float] = [result["drift"] for result in results.values() if "drift" in result]
    return f"{sum(last) / len(last):.2g}" if last else "–"
