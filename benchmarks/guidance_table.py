"""The tables of `guidance_evidence.py`, between two markers of a page, from what the seeds' folders hold."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from evidence_table import place

from reelign.errors import ReelignError

DIMENSIONS = ("VQ", "MQ", "TA")
SURFACE = "surface-"


def write_guidance_tables(folder: Path, arms: Mapping[str, str], axis: Sequence[float], page: Path) -> None:
    """Put the tables into the page, in place of those that are there.

    Raises:
        ReelignError: nothing is evaluated yet, or the page has no markers.
    """
    put = place(page, "guidance")
    found = {seed.name: results_of(seed) for seed in sorted(folder.glob("seed-*"))}
    found = {seed: results for seed, results in found.items() if results}
    if not found:
        raise ReelignError(f"{folder} holds no evaluated guidance.", "Run some arms first.")
    parts = [
        f"Written by `benchmarks/guidance_evidence.py` on {time.strftime('%Y-%m-%d')}, {len(found)} training seeds. "
        "Win rates are over unguided videos of the same prompts and noise by the true judge, ties half; gains are of "
        "its score; ± is the standard deviation over training seeds.",
        _arms(arms, found),
        _surface(axis, found),
        _accuracy(folder),
        _searches(folder),
    ]
    put([part for part in parts if part])


def results_of(seed: Path) -> dict[str, dict[str, Any]]:
    """Arm to its comparison."""
    if not (seed / "arms.json").exists():
        return {}
    files = json.loads((seed / "arms.json").read_text())
    return {name: json.loads((seed / "guided" / file).read_text())["comparison"] for name, file in files.items()}


def _arms(arms: Mapping[str, str], found: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [["weights", *(f"{name} wins" for name in DIMENSIONS), *(f"{name} gain" for name in DIMENSIONS)]]
    for name, what in arms.items():
        own = [results[name]["dimensions"] for results in found.values() if name in results]
        if own and not name.startswith(SURFACE):
            wins = [_over([each[one]["win"]["rate"] for each in own], "{:.2f}") for one in DIMENSIONS]
            gains = [_over([each[one]["gain"] for each in own], "{:+.3f}") for one in DIMENSIONS]
            rows.append([what, *wins, *gains])
    return _table(rows)


def _surface(axis: Sequence[float], found: Mapping[str, Mapping[str, Any]]) -> str:
    """Gains in VQ / MQ under both weights, and by how much each grows along its own axis on average."""
    rows = [["VQ \\ MQ weight", *(f"{other:g}" for other in axis)]]
    known = any(name.startswith(SURFACE) for results in found.values() for name in results)
    if not known:
        return ""
    for one in axis:
        cells = []
        for other in axis:
            own = [results.get(f"{SURFACE}{one:g}-{other:g}") for results in found.values()]
            there = [each["dimensions"] for each in own if each]
            unknown = "–" if one or other else "0"
            pair = [
                _over([each[name]["gain"] for each in there], "{:+.3f}") if there else unknown for name in ("VQ", "MQ")
            ]
            cells.append(" / ".join(pair))
        rows.append([f"{one:g}", *cells])
    complete = not any("–" in cell for row in rows for cell in row)
    return "Gains in VQ / MQ under two weights:\n\n" + _table(rows) + (_along(axis, found) if complete else "")


def _along(axis: Sequence[float], found: Mapping[str, Mapping[str, Any]]) -> str:
    """What each dimension gains along its own weight, mean over the other weight and training seeds."""

    def gain(one: float, other: float, name: str) -> float:
        if not one and not other:
            return 0.0
        own = [results.get(f"{SURFACE}{one:g}-{other:g}") for results in found.values()]
        return mean([each["dimensions"][name]["gain"] for each in own if each])

    def told(name: str, steps: Sequence[Sequence[tuple[float, float]]]) -> str:
        means = [mean(gain(*cell, name) for cell in cells) for cells in steps]
        return f"{name} gains {', '.join(f'{each:+.4f}' for each in means)} along its own weight"

    down = [[(one, other) for other in axis] for one in axis]
    across = [[(one, other) for one in axis] for other in axis]
    return f"\n\nOn average over the other weight {told('VQ', down)}, {told('MQ', across)}."


def _accuracy(folder: Path) -> str:
    rows = [["reward", "dimension", "clean", "2nd quarter", "3rd quarter", "noisy"]]
    for kind in ("noisy", "clean"):
        paths = sorted(folder.glob(f"seed-*/runs/{kind}/latent_reward/numbers.json"))
        numbers = [json.loads(path.read_text())["held_out_accuracy_by_quarter_of_noise"] for path in paths]
        for name in DIMENSIONS if numbers else ():
            shares = [_over([each[name][place] for each in numbers], "{:.2f}") for place in range(4)]
            rows.append([f"{kind}-latent", name, *shares])
    return "Held-out pairs ordered right, by noise:\n\n" + _table(rows) if len(rows) > 1 else ""


def _searches(folder: Path) -> str:
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("seed-*/searches.json"))]
    if not found:
        return ""
    rows = [["search", "denoiser calls a video", "mean true score", *DIMENSIONS]]
    for what in found[0]:
        own = [each[what] for each in found]
        each = [_over([one[name] for one in own], "{:.3f}") for name in DIMENSIONS]
        whole = _over([mean(one[name] for name in DIMENSIONS) for one in own], "{:.3f}")
        rows.append([what, f"{mean(one['denoiser_calls'] for one in own):g}", whole, *each])
    return "Searches over seeds by the latent reward:\n\n" + _table(rows)


def _over(values: Sequence[float], form: str) -> str:
    """Mean and deviation over seeds."""
    told = form.format(mean(values))
    return f"{told} ± {stdev(values):.3f}" if len(values) > 1 else told


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = rows
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rest]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
