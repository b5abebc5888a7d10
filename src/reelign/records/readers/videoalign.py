"""VideoAlign's CSV: two videos a row, judged A, B or same on visual quality, motion quality and text alignment.

Liu et al. 2025 (arXiv:2501.13918): the training file of VideoReward and `videogen-rewardbench.csv`, which has `Overall`
beside. Any other label is a missing one, as in the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from reelign.errors import ReelignError
from reelign.records.file_rows import Row
from reelign.records.readers.base import Reader, Source, compared

COLUMNS = ("path_A", "path_B", "prompt")
DIMENSIONS = ("VQ", "MQ", "TA")
OVERALL = "Overall"
MARGIN = {"a": 1.0, "b": -1.0, "same": 0.0}


def read(source: Source) -> Iterator[Row]:
    names = source.columns or {}
    judged = [name for name in (*DIMENSIONS, OVERALL) if name in names]
    if not judged:
        raise ReelignError(
            f"{source.path} judges nothing: it has no column {', '.join(DIMENSIONS)} or {OVERALL}",
            "Add a column with A, B or same in each row.",
        )
    for where, row in source.rows():
        verdicts = {name: _margin(row[name]) for name in judged}
        yield compared(
            source,
            where,
            row["prompt"],
            ("path_A", row["path_A"]),
            ("path_B", row["path_B"]),
            margins={name: value for name, value in verdicts.items() if name != OVERALL and value is not None},
            margin=verdicts.get(OVERALL),
            models=(str(row.get("A_model") or ""), str(row.get("B_model") or "")),
            ratings=_ratings(row),
        )


def _margin(cell: Any) -> float | None:
    return MARGIN.get(str(cell).strip().lower())


def _ratings(row: Mapping[str, Any]) -> dict[str, tuple[float | None, float | None]]:
    """Mean opinion scores of both videos, from MOS_A_VQ, MOS_B_VQ and so on."""
    found = {name: (_opinion(row.get(f"MOS_A_{name}")), _opinion(row.get(f"MOS_B_{name}"))) for name in DIMENSIONS}
    return {name: both for name, both in found.items() if any(both)}


def _opinion(cell: Any) -> float | None:
    """From 1 to 5; 0 and anything else is a missing one, as in the authors' code."""
    try:
        opinion = float(cell)
    except (TypeError, ValueError):
        return None
    return opinion if 0 < opinion < math.inf else None


READER = Reader(
    what="VideoAlign's table of path_A, path_B, prompt and A/B/same on VQ, MQ, TA", columns=COLUMNS, read=read
)
