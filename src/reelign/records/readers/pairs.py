"""A table of (prompt, chosen, rejected), optionally with `margin` (> 0), `margin_<dimension>`, `segments`, `image`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from reelign.errors import ReelignError
from reelign.records.file_rows import BAD_VALUE, Broken, Row
from reelign.records.readers.base import Reader, Source, compared
from reelign.records.segments import read_segments

COLUMNS = ("prompt", "chosen", "rejected")
ON_DIMENSION = "margin_"


def read(source: Source) -> Iterator[Row]:
    names = list(source.columns or {})
    if "margin" not in names:
        # It may be left out, but a misspelt one must not be passed over in silence.
        others = [name for name in names if name not in COLUMNS and not name.startswith(ON_DIMENSION)]
        near = get_close_matches("margin", others, n=1, cutoff=0.7)
        if near:
            raise ReelignError(
                f"{source.path} has no column 'margin', only {', '.join(names)}", f"Rename {near[0]!r} to 'margin'."
            )
    for where, row in source.rows():
        margin = _margin(row.get("margin"))
        margins = {
            name.removeprefix(ON_DIMENSION): _number(cell)
            for name, cell in row.items()
            if name.startswith(ON_DIMENSION) and cell not in (None, "")
        }
        try:
            segments = read_segments(row.get("segments"))
        except ValueError as error:
            mend = "Correct the cell or leave it empty."
            yield Broken(where=where, reason=BAD_VALUE, what=str(error), mend=mend)
            continue
        if math.isnan(margin):
            yield Broken(
                where=where,
                reason=BAD_VALUE,
                what=f"margin must be a positive number, got {row['margin']!r}",
                mend="Swap chosen and rejected where it is negative; a tie is not a preference, leave it out.",
            )
        elif any(math.isnan(value) for value in margins.values()):
            bad = next(name for name, value in margins.items() if math.isnan(value))
            what = f"{ON_DIMENSION}{bad} must be a number, got {row[ON_DIMENSION + bad]!r}"
            yield Broken(where=where, reason=BAD_VALUE, what=what, mend="Correct it or leave it empty.")
        else:
            sides = [(name, row["chosen" if name == "chosen" else "rejected"]) for name in ("chosen", "rejected")]
            yield compared(
                source,
                where,
                row["prompt"],
                sides[0],
                sides[1],
                image=row.get("image"),
                margins=margins,
                margin=margin,
                segments=segments,
            )


def _margin(cell: Any) -> float:
    if cell is None or cell == "":
        return 1.0
    margin = _number(cell)
    return margin if margin > 0 else math.nan


def _number(cell: Any) -> float:
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan


READER = Reader(what="a table of prompt, chosen, rejected (and margin)", columns=COLUMNS, read=read)
