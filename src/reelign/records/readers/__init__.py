"""Readers of preferences in users' files: the layout is recognised by what is there, or named."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

from reelign.errors import ReelignError
from reelign.naming import is_object_name, named_object
from reelign.records.file_rows import FileRows, sort_rows
from reelign.records.pair_files import FilePair, decided
from reelign.records.readers.base import Reader, Source
from reelign.records.tables import is_dataset

READERS = {
    "pairs": "reelign.records.readers.pairs:READER",
    "videoalign": "reelign.records.readers.videoalign:READER",
    "genai-bench": "reelign.records.readers.genai_bench:READER",
    "videodpo": "reelign.records.readers.videodpo:READER",
    "labels": "reelign.records.readers.labels:READER",
    "two-folders": "reelign.records.readers.two_folders:READER",
    "pair-folders": "reelign.records.readers.pair_folders:READER",
}
"""Name of a layout -> its reader. Tables may be CSV, Parquet, JSONL, JSON lists or saved Hugging Face datasets."""

TABLES = ("*.csv", "*.parquet", "*.jsonl", "pair.json")


def read_rows(path: str | Path, format: str | None = None) -> FileRows:
    """Read what a file or folder of preferences says; relative paths in it start at its own folder.

    Args:
        path: a table, a saved dataset, a folder of videos, or a folder with one table in it.
        format: a name of `READERS`, or another reader as `package.module:object`; None recognises it by what it holds.
    Returns:
        its rows, with those that cannot be trained on apart. Whether the videos can be read is not looked at yet.
    Raises:
        ReelignError: nothing there, nothing of a known layout, an unreadable or empty file.
    """
    source = _source(Path(path))
    name = format or _recognise(source)
    reader = load_reader(name)
    missing = [column for column in reader.columns if column not in (source.columns or {})]
    if missing:
        raise _lacks(source, missing[0], reader)
    found = sort_rows(source.path, name, list(reader.read(source)))
    if not (found.compared or found.labels or found.broken):
        raise ReelignError(f"{source.path} has no pairs", "Write one row per pair under the header.")
    return found


def read_pairs(
    path: str | Path,
    format: str | None = None,
    *,
    pairs: str = "all",
    weights: Mapping[str, float] | None = None,
) -> list[FilePair]:
    """The pairs that a file of preferences decides (`read_rows`, `decided`).

    Raises:
        ReelignError: as `read_rows`, or a row is broken: a missing value or video, the same video twice, a margin that
            is not positive.
    """
    rows = read_rows(path, format)
    rows.refuse_broken()
    return decided(rows.compared, pairs=pairs, weights=weights)[0]


def load_reader(name: str) -> Reader:
    """The reader of a layout, by its name in `READERS` or as `package.module:object`."""
    target = READERS.get(name, name)
    if not is_object_name(target):
        near = get_close_matches(name, READERS, n=1, cutoff=0)[0]
        raise ReelignError(
            f"there is no format {name!r} of preferences", f"Did you mean {near!r}? Known: {', '.join(READERS)}."
        )
    reader = named_object(target, "reader")
    if not isinstance(reader, Reader):
        raise ReelignError(f"{name} is no reader of preferences", "Give a reelign.records.readers.base.Reader.")
    return reader


def _source(path: Path) -> Source:
    """The file or folder itself, or the one table in a folder that is no layout by itself."""
    if not path.exists():
        raise ReelignError(f"no file of pairs at {path}", "Check the path.")
    if path.is_file() or is_dataset(path) or any(_holds_folder(name, path) for name in READERS):
        return Source(path)
    tables = sorted(found for pattern in TABLES for found in path.glob(pattern))
    if len(tables) == 1:
        return Source(tables[0])
    seen = ", ".join(table.name for table in tables)
    raise ReelignError(
        f"the folder {path} holds {f'several tables, {seen}' if tables else 'no preferences that are recognised'}",
        "Give one of them." if tables else _known(),
    )


def _holds_folder(name: str, path: Path) -> bool:
    reader = load_reader(name)
    return reader.recognise is not None and reader.recognise(Source(path))


def _recognise(source: Source) -> str:
    name = next((name for name in READERS if load_reader(name).holds(source)), None)
    if name is not None:
        return name
    # The layout that it comes nearest to; of equals the plain table of pairs, which comes first.
    seen = set(source.columns or {})
    nearest = max((load_reader(name) for name in READERS), key=lambda reader: len(seen & set(reader.columns)))
    raise _lacks(source, next(column for column in nearest.columns if column not in seen), nearest)


def _lacks(source: Source, column: str, reader: Reader) -> ReelignError:
    names = list(source.columns or {})
    near = get_close_matches(column, [name for name in names if name not in reader.columns], n=1, cutoff=0.7)
    mend = f"Rename {near[0]!r} to {column!r}." if near else _known()
    return ReelignError(f"{source.path} has no column {column!r}, only {', '.join(names)}", mend)


def _known() -> str:
    kinds = "; ".join(f"{name}: {load_reader(name).what}" for name in READERS)
    return f"Known formats are {kinds}."
