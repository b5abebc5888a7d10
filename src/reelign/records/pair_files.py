"""Preferences as files: a CSV or Parquet of (prompt, chosen mp4, rejected mp4), what a user really has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from reelign.errors import ReelignError

REQUIRED = ("prompt", "chosen", "rejected")
SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True, kw_only=True, slots=True)
class FilePair:
    """Two video files of one prompt of which one is better."""

    prompt: str
    chosen: Path
    rejected: Path
    margin: float = 1.0
    """How much better, > 0."""


def read_pairs(path: str | Path) -> list[FilePair]:
    """Read pairs; relative paths in the file start at the file's own folder.

    Columns: prompt, chosen, rejected, and optionally margin (> 0, 1 where left out); others are not looked at. Rows
    are counted from 1, the header not counted.

    Raises:
        ReelignError: an unreadable or empty file, a missing column, or a row with a missing value, a missing video,
            the same video twice, or a margin that is not positive.
    """
    path = Path(path)
    if not path.is_file():
        raise ReelignError(f"no file of pairs at {path}", "Check the path.")
    columns = read_columns(path)
    _check_columns(path, list(columns))
    margins = columns.get("margin") or [None] * len(columns["prompt"])
    rows = list(zip(*(columns[name] for name in REQUIRED), margins, strict=True))
    if not rows:
        raise ReelignError(f"{path} has no pairs", "Write one row per pair under the header.")
    return [_read_row(path, number, row) for number, row in enumerate(rows, start=1)]


def write_pairs(path: str | Path, pairs: Iterable[FilePair]) -> None:
    """Write pairs as CSV or Parquet, by the suffix; `read_pairs` gives them back.

    The videos are named relative to the file's folder, so that a folder with both can be moved. The file appears
    whole or not at all.

    Raises:
        ReelignError: another suffix, or no pairs.
    """
    import pyarrow as pa
    from pyarrow import csv, parquet

    path = Path(path)
    _check_suffix(path)
    pairs = list(pairs)
    if not pairs:
        raise ReelignError(f"there are no pairs to write to {path}", "Judge some videos first.")
    folder = path.resolve().parent
    table = pa.table(
        {
            "prompt": [pair.prompt for pair in pairs],
            "chosen": [_relative(pair.chosen, folder) for pair in pairs],
            "rejected": [_relative(pair.rejected, folder) for pair in pairs],
            "margin": pa.array([pair.margin for pair in pairs], pa.float64()),
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{path.name}.{os.getpid()}.tmp"
    try:
        (csv.write_csv if path.suffix == ".csv" else parquet.write_table)(table, str(beside))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def read_columns(path: Path) -> dict[str, list[Any]]:
    """Columns of a CSV or Parquet file by name; of a CSV those that name prompts, videos and margins as text."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    _check_suffix(path)
    try:
        if path.suffix == ".parquet":
            table = parquet.read_table(str(path))
        else:
            # As text: a prompt "2024" is no number, and a wrong margin is reported with its row.
            types = dict.fromkeys((*REQUIRED, "margin", "video"), pa.string())
            table = csv.read_csv(
                str(path),
                parse_options=csv.ParseOptions(newlines_in_values=True),
                convert_options=csv.ConvertOptions(column_types=types),
            )
    except (pa.ArrowException, OSError) as error:
        if "Empty CSV file" in str(error):
            raise ReelignError(f"{path} is empty", "Write a header and one row per pair.") from None
        raise ReelignError(f"{path} cannot be read: {error}", "Write the file again as CSV or Parquet.") from error
    return {name: table.column(index).to_pylist() for index, name in enumerate(table.column_names)}


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise ReelignError(
            f"{path} is neither CSV nor Parquet by its name", f"Use a name that ends in {' or '.join(SUFFIXES)}."
        )


def _check_columns(path: Path, names: Sequence[str]) -> None:
    for wanted in (*REQUIRED, "margin"):
        near = get_close_matches(wanted, [name for name in names if name not in REQUIRED], n=1, cutoff=0.7)
        # margin may be left out, but a misspelt one must not be passed over in silence
        if wanted not in names and (wanted in REQUIRED or near):
            mend = f"Rename {near[0]!r} to {wanted!r}." if near else f"It needs the columns {', '.join(REQUIRED)}."
            raise ReelignError(f"{path} has no column {wanted!r}, only {', '.join(names)}", mend)


def _read_row(path: Path, number: int, row: tuple[Any, ...]) -> FilePair:
    where = f"{path}, row {number}"
    for name, value in zip(REQUIRED, row, strict=False):
        if not isinstance(value, str) or not value.strip():
            raise ReelignError(f"{where}: {name} must be a text, got {value!r}", "Fill it in or remove the row.")
    prompt, chosen, rejected = row[0], _resolve(path, row[1]), _resolve(path, row[2])
    for name, video in (("chosen", chosen), ("rejected", rejected)):
        if not video.is_file():
            raise ReelignError(
                f"{where}: the {name} video {video} does not exist",
                f"Paths start at the folder of the file, {path.resolve().parent}.",
            )
    if chosen == rejected:
        raise ReelignError(f"{where}: chosen and rejected are the same video {chosen}", "Remove the row.")
    return FilePair(prompt=prompt, chosen=chosen, rejected=rejected, margin=_margin(where, row[3]))


def _margin(where: str, value: Any) -> float:
    if value is None or value == "":
        return 1.0
    try:
        margin = float(value)
    except (TypeError, ValueError):
        margin = math.nan
    if not (math.isfinite(margin) and margin > 0):
        raise ReelignError(
            f"{where}: margin must be a positive number, got {value!r}",
            "Swap chosen and rejected where it is negative; a tie is not a preference, leave it out.",
        )
    return margin


def _resolve(path: Path, text: str) -> Path:
    return (path.resolve().parent / Path(text).expanduser()).resolve()


def _relative(video: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(video.resolve(), folder)).as_posix()
    except ValueError:  # another drive, on Windows
        return video.resolve().as_posix()
