"""A workspace's record in and out by the name of a format."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, get_args

from sqlalchemy import func, select

from reelign.errors import ReelignError
from reelign.records.derived import workspace_votes
from reelign.records.exchange.argilla import read_argilla, write_argilla
from reelign.records.exchange.bundle import Bundle, add_bundle, bundle_of
from reelign.records.exchange.hub_dataset import read_hub_dataset, write_hub_dataset
from reelign.records.exchange.label_studio import read_label_studio, write_label_studio
from reelign.records.exchange.tables import read_tables, write_tables
from reelign.records.exchange.videoreward import bundle_of_rows, read_rows, rows_of, write_rows
from reelign.records.schema import Judgement, Video
from reelign.records.workspace import Workspace

RecordFormat = Literal["parquet", "jsonl", "csv", "datasets", "label-studio", "argilla", "videoreward"]
RECORD_FORMATS: tuple[RecordFormat, ...] = get_args(RecordFormat)
FOLDERS: tuple[RecordFormat, ...] = ("parquet", "jsonl", "csv", "datasets")
"""Formats that are a folder; the others are one file."""
SUFFIXES: dict[RecordFormat, str] = {"label-studio": ".json", "argilla": ".json", "videoreward": ".csv"}
"""How the one file of a format ends."""


@dataclass(frozen=True)
class Imported:
    """What an import added."""

    judgements: int
    videos: int


def check_format(name: str) -> RecordFormat:
    """The format of that name.

    Raises:
        ReelignError: there is none.
    """
    for known in RECORD_FORMATS:
        if known == name:
            return known
    near = get_close_matches(name, RECORD_FORMATS, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise ReelignError(f"no format of a record is called {name!r}", f"{hint}There are: {', '.join(RECORD_FORMATS)}.")


def export_record(workspace: Workspace, path: Path, format: RecordFormat, *, name: str = "") -> int:
    """Write the record, and return how many judgements (of videoreward: judged pairs) it holds.

    Args:
        path: a folder for `FOLDERS`, a file for the others.
        format: `videoreward` holds the majority votes, `label-studio` and `argilla` videos and judgements, the others
            everything.
        name: of a `datasets` folder, as in `user/name`; the folder's name where empty.
    """
    bundle = bundle_of(workspace)
    judgements = list(bundle.judgements)
    bundle = replace(bundle, judgements=judgements)
    if format == "videoreward":
        rows = rows_of(workspace_votes(workspace), bundle.videos)
        write_rows(path, rows)
        return len(rows)
    if format == "label-studio":
        write_label_studio(path, bundle)
    elif format == "argilla":
        write_argilla(path, bundle)
    elif format == "datasets":
        write_hub_dataset(path, bundle, name=name or path.name)
    else:
        write_tables(path, bundle, format)
    return len(judgements)


def import_record(workspace: Workspace, path: Path, format: RecordFormat, *, judge: str = "") -> Imported:
    """Add what a file or folder holds and the workspace does not, and return how much that was.

    Args:
        path: as `export_record` writes it, or as the tool of the format does.
        format: its name.
        judge: whose judgements those of `videoreward` are, which names none; the file's name where empty.
    Raises:
        ReelignError: no such thing at the path, or one of another format.
    """
    if not path.exists():
        raise ReelignError(f"there is nothing at {path}", "Check the path.")
    judgements, videos = _count(workspace, Judgement), _count(workspace, Video)
    add_bundle(workspace, _read(path, format, judge))
    return Imported(_count(workspace, Judgement) - judgements, _count(workspace, Video) - videos)


def recognise(path: Path) -> RecordFormat:
    """The format of what is at a path, by its tables or its first record.

    Raises:
        ReelignError: none that is known.
    """
    if (path / "data").is_dir():
        return "datasets"
    for format in ("parquet", "jsonl", "csv"):
        if any((path / f"{table}.{format}").is_file() for table in ("judgements", "videos")):
            return check_format(format)
    if path.suffix == ".csv" and path.is_file():
        return "videoreward"
    if path.suffix == ".json" and path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            start = file.read(1 << 20)
        return "argilla" if '"fields"' in start and '"responses"' in start else "label-studio"
    raise ReelignError(
        f"{path} is no record of judgements that is known by its look",
        f"Name its format: --format {'|'.join(RECORD_FORMATS)}.",
    )


def _read(path: Path, format: RecordFormat, judge: str) -> Bundle:
    if format == "videoreward":
        return bundle_of_rows(read_rows(path), judge=judge or path.stem)
    readers = {"label-studio": read_label_studio, "argilla": read_argilla, "datasets": read_hub_dataset}
    return readers.get(format, read_tables)(path)


def _count(workspace: Workspace, rows: type[Judgement] | type[Video]) -> int:
    with workspace.reading() as session:
        return session.scalar(select(func.count()).select_from(rows)) or 0
