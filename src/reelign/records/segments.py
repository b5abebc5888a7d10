"""Parts of a pair with a verdict of their own: stretches of time, boxes in the picture, or both (DenseDPO, LocalDPO).

In a file they are a column `segments` of JSON: `[{"from": 0, "to": 1.5, "better": "rejected"}, {"box": [0, 0, 1, 1]}]`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

KEYS = ("from", "to", "box", "better")
VERDICTS = {"chosen": 1, "tie": 0, "rejected": -1}


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A part of both videos of a pair, and which of them is better there."""

    start_s: float = 0.0
    end_s: float = math.inf
    """Seconds from the beginning, the end not included."""
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    """Left, top, right, bottom as shares of width and height."""
    label: int = 1
    """1 where the pair's chosen video is better, -1 where the rejected one is, 0 for a tie."""

    def __post_init__(self) -> None:
        left, top, right, bottom = self.box
        if not 0 <= self.start_s < self.end_s:
            raise ValueError(f"from and to must be increasing seconds, got {self.start_s} and {self.end_s}")
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(f"box must be left, top, right, bottom as shares in [0, 1], got {list(self.box)}")
        if self.label not in VERDICTS.values():
            raise ValueError(f"label must be 1, 0 or -1, got {self.label}")


Segments = tuple[Segment, ...]


def read_segments(cell: Any) -> Segments:
    """The segments that a cell holds: JSON text, or a list as JSON files and Parquet have it; nothing is none.

    Raises:
        ValueError: it is not of that form, with what is wrong, or no segment in it has a preference.
    """
    if cell is None or cell == "":
        return ()
    try:
        entries = json.loads(cell) if isinstance(cell, str) else cell
    except json.JSONDecodeError as error:
        raise ValueError(f"segments must be JSON, got {cell!r} ({error})") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"segments must be a list of objects, got {cell!r}")
    found = tuple(_segment(entry) for entry in entries)
    if found and not any(each.label for each in found):
        raise ValueError("segments must hold a preference, and all of them are ties")
    return found


def segments_cell(segments: Iterable[Segment]) -> str | None:
    """What `read_segments` reads back."""
    names = {label: name for name, label in VERDICTS.items()}
    entries = []
    for each in segments:
        entry: dict[str, Any] = {"from": each.start_s, "box": list(each.box), "better": names[each.label]}
        entries.append(entry if math.isinf(each.end_s) else {**entry, "to": each.end_s})
    return json.dumps(entries) if entries else None


def turned_around(segments: Sequence[Segment]) -> Segments:
    """The same with chosen and rejected exchanged."""
    return tuple(replace(each, label=-each.label) for each in segments)


def _segment(entry: dict[str, Any]) -> Segment:
    # Parquet gives every row all keys that any has.
    entry = {name: value for name, value in entry.items() if value is not None}
    if unknown := sorted(set(entry) - set(KEYS)):
        raise ValueError(f"a segment has no {unknown[0]!r}, only {', '.join(KEYS)}")
    better = entry.get("better", "chosen")
    if better not in VERDICTS:
        raise ValueError(f"better must be one of {', '.join(VERDICTS)}, got {better!r}")
    try:
        start, end = float(entry.get("from", 0.0)), float(entry.get("to", math.inf))
        left, top, right, bottom = (float(value) for value in entry.get("box", (0, 0, 1, 1)))
    except (TypeError, ValueError):
        raise ValueError(f"from and to must be numbers and box four of them, got {entry}") from None
    return Segment(start_s=start, end_s=end, box=(left, top, right, bottom), label=VERDICTS[better])
