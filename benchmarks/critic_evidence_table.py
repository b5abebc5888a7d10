"""The table of `critic_evidence.py`, between two markers of a page, from what the seeds' folders hold."""

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
    "untrained": "the backbone, untrained",
    "verdicts": "trained on verdicts, both orders",
    "reasons": "trained on reasons, then verdicts, both orders",
    "one-order": "trained on verdicts, one order",
}


def write_table(folder: Path, arms: Sequence[str], page: Path) -> None:
    """Put the table into the page, in place of the one that is there.

    Args:
        folder: of the seeds.
        arms: in the table's order.
        page: has the two markers.
    Raises:
        ReelignError: nothing is measured yet, or the page has no markers.
    """
    put = place(page, "critics")
    found = {arm: results_of(folder, arm) for arm in arms}
    found = {arm: results for arm, results in found.items() if results}
    if not found:
        raise ReelignError(f"{folder} holds no measured arm.", "Run some arms first.")
    put([_head(found), _rows(found)])


def results_of(folder: Path, arm: str) -> list[dict[str, Any]]:
    """What was measured of an arm, by seed."""
    paths = sorted(folder.glob(f"seed-*/workspace/runs/{arm}/critic.json"))
    return [json.loads(path.read_text())["measured"] for path in paths]


def _head(found: dict[str, list[dict[str, Any]]]) -> str:
    one = next(iter(found.values()))[0]
    return (
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, torch {torch.__version__} on {os.cpu_count()} cores of "
        f"{platform.machine()}; {len(next(iter(found.values())))} seeds. Held-out captions, "
        f"{one['pairs']['VQ']['pairs']} pairs and {one['videos']['VQ']['videos']} clips of each dimension a seed. "
        "In %, mean over seeds of VQ / MQ / TA; chance is 50 of pairs, and always the commonest grade has "
        f"{_each(list(found.values())[-1], _commonest)} of clips. IPO's Table 6, on labels of its authors' own: 83.7 "
        "and 95.3 of a trained ViLA-13B, 86.1 and 97.6 of a ViLA-40B."
    )


def _commonest(own: dict[str, Any], name: str) -> float | None:
    """The share of clips with the grade that people gave most often; unknown of a critic that answered nothing."""
    counts = [sum(row.values()) for row in own["videos"][name]["confusion"].values()]
    return max(counts) / sum(counts) if sum(counts) else None


def _rows(found: dict[str, list[dict[str, Any]]]) -> str:
    head = ["critic", "pairs w/o ties", "consistent", "then w/o ties", "first chosen", "clips"]
    head += ["no verdict on pairs", "on clips", "TA, wrong prompt"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for arm, results in found.items():
        cells = [WHAT[arm]]
        for key in ("without_ties", "consistent", "swapped", "first"):
            cells.append(_each(results, lambda own, name, key=key: own["pairs"][name][key]["mean"]))
        cells.append(_each(results, lambda own, name: own["videos"][name]["three_level"]["mean"]))
        for kind in ("pairs", "videos"):
            cells.append(_each(results, lambda own, name, kind=kind: own[kind][name]["answers"]["unanswered"]["mean"]))
        wrong = [own["pairs"]["TA"]["answers"]["prompts"]["accuracy"]["wrong"]["mean"] for own in results]
        cells.append(_mean(wrong))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _each(results: list[dict[str, Any]], value: Any) -> str:
    return " / ".join(_mean([value(own, name) for own in results]) for name in ("VQ", "MQ", "TA"))


def _mean(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{100 * sum(known) / len(known):.1f}" if known else "–"
