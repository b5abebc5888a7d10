"""The table of `reward_evidence.py`, between two markers of a page, from what the seeds' folders hold."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from evidence_table import place

from reelign.errors import ReelignError

WHAT = {
    "btt": "BTT, a token each (VideoReward's)",
    "btt-last": "BTT, read at the last token",
    "bt": "BT, a token each",
    "regression": "regression to the share won, a token each",
}
GATE = 0.80


def write_table(folder: Path, arms: Sequence[str], page: Path) -> None:
    """Put the table into the page, in place of the one that is there.

    Args:
        folder: of the seeds.
        arms: in the table's order.
        page: has the two markers.
    Raises:
        ReelignError: nothing is measured yet, or the page has no markers.
    """
    put = place(page, "rewards")
    found = {arm: results_of(folder, arm) for arm in arms}
    found = {arm: results for arm, results in found.items() if results}
    if not found:
        raise ReelignError(f"{folder} holds no measured arm.", "Run some arms first.")
    put([_head(folder, found), _rows(found), _ceiling(found)])


def results_of(folder: Path, arm: str) -> dict[int, dict[str, Any]]:
    """Seed to what was measured of that arm."""
    paths = sorted(folder.glob(f"seed-*/workspace/runs/{arm}/evidence.json"))
    return {int(path.parents[3].name.removeprefix("seed-")): json.loads(path.read_text()) for path in paths}


def _head(folder: Path, found: dict[str, dict[int, dict[str, Any]]]) -> str:
    pairs = next(iter(next(iter(found.values())).values()))["pairs"]
    backbones = [json.loads(path.read_text()) for path in sorted(folder.glob("seed-*/backbone.json"))]
    shares = ", ".join(
        f"{name} {_mean([each[name] for each in backbones]):.2f}"
        for name in ("colour", "shape", "motion", "word", "answer", "flaws")
    )
    return (
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, torch {torch.__version__} on {os.cpu_count()} cores of "
        f"{platform.machine()}. Held-out captions, {pairs} pairs a seed; mean over the seeds with the lowest and the "
        f"highest. The backbones, after {backbones[0]['steps']} steps of 32 clips, have right: "
        f"{shares} (of words and prompts whether they fit, of flaws the share of variance)."
    )


def _rows(found: dict[str, dict[int, dict[str, Any]]]) -> str:
    names = list(next(iter(next(iter(found.values())).values()))["dimensions"])
    head = [
        "trained with",
        "seeds",
        *(f"{name} without / with ties" for name in names),
        "ties below decided",
        "TA gate",
    ]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for arm, results in found.items():
        cells = [WHAT[arm], str(len(results))]
        for name in names:
            own = [each["dimensions"][name] for each in results.values()]
            cells.append(f"{_spread([e['without_ties'] for e in own])} / {_spread([e['with_ties'] for e in own])}")
        cells.append(
            " / ".join(
                f"{_mean([each['dimensions'][name]['ties_below_decided'] for each in results.values()]):.2f}"
                for name in names
            )
        )
        cells.append(_spread([each["gate"] for each in results.values()]))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _ceiling(found: dict[str, dict[int, dict[str, Any]]]) -> str:
    """What the true judges reach against the same people's votes."""
    results = list(next(iter(found.values())).values())
    names = list(results[0]["dimensions"])
    parts = []
    for name in names:
        own = [each["dimensions"][name] for each in results]
        parts.append(
            f"{name} {_mean([e['ceiling_without_ties'] for e in own]):.3f} without and "
            f"{_mean([e['ceiling_with_ties'] for e in own]):.3f} with ties ({_mean([e['tie_share'] for e in own]):.0%} "
            f"are ties; below decided {_mean([e['ceiling_ties_below_decided'] for e in own]):.2f})"
        )
    told = "; ".join(
        f"{WHAT[arm]}: "
        + ", ".join(f"{name} {max(e['prompt_moves'][name] for e in found[arm].values()):.2g}" for name in names)
        for arm in found
    )
    return (
        f"The ceiling that the people's noise allows, reached by the true judges: {'; '.join(parts)}. The gate: TA "
        f"prefers a clip that fits its prompt to one with a word wrong; colour alone has 0.67, {GATE:.2f} is asked. "
        f"The most that another prompt moves the scores of eight clips, in standard deviations: {told}."
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{_mean(values):.3f} [{min(values):.3f}, {max(values):.3f}]"
