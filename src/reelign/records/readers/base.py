"""What a reader of preferences is, and what all of them check of a row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from reelign.errors import ReelignError
from reelign.files import whole
from reelign.records.file_rows import NO_IMAGE, NO_PROMPT, NO_VIDEO, SAME_VIDEO, Broken, Compared, FileLabel, Row
from reelign.records.image_prompts import prompt_of_cells
from reelign.records.segments import Segments
from reelign.records.tables import Columns, is_dataset, read_columns

VIDEO_SUFFIXES = (".mp4", ".webm", ".mov", ".mkv", ".avi", ".gif")
UNPACKED = "reelign-videos"
"""Folder beside a file that holds videos as bytes; they are written there once, named by their content."""


@dataclass(frozen=True)
class Source:
    """A file or folder of preferences."""

    path: Path

    @cached_property
    def columns(self) -> Columns | None:
        """Its columns, or None of a folder that is no table."""
        if self.path.is_dir() and not is_dataset(self.path):
            return None
        return read_columns(self.path)

    @property
    def folder(self) -> Path:
        """Where relative paths in it start."""
        return self.path.resolve() if self.path.is_dir() else self.path.resolve().parent

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Where each row stands, counted from 1 without a header, and its cells by column."""
        columns = self.columns or {}
        for number, cells in enumerate(zip(*columns.values(), strict=True), start=1):
            yield f"{self.path}, row {number}", dict(zip(columns, cells, strict=True))


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How one layout of preferences is recognised and read."""

    what: str
    """What it holds, in a line, for people."""
    read: Callable[[Source], Iterator[Row]]
    columns: tuple[str, ...] = ()
    """Columns that a table of this layout has; () of a layout of folders."""
    recognise: Callable[[Source], bool] | None = None
    """For layouts of folders."""

    def holds(self, source: Source) -> bool:
        if self.recognise is not None:
            return self.recognise(source)
        return source.columns is not None and set(self.columns) <= set(source.columns)


def compared(
    source: Source,
    where: str,
    prompt: Any,
    first: tuple[str, Any],
    second: tuple[str, Any],
    *,
    image: Any = None,
    margins: dict[str, float] | None = None,
    margin: float | None = None,
    segments: Segments = (),
    models: tuple[str, str] = ("", ""),
    ratings: dict[str, tuple[float | None, float | None]] | None = None,
) -> Compared | Broken:
    """A row of two videos, each given as (what the file calls it, its cell), or why it is none; both go on from
    `image`, where the cell names one."""
    videos = []
    for name, cell in (first, second):
        found = _video(source, where, name, cell)
        if isinstance(found, Broken):
            return found
        videos.append(found)
    asked = _asked(source, where, prompt, image)
    if isinstance(asked, Broken):
        return asked
    if videos[0] == videos[1]:
        what = f"{first[0]} and {second[0]} are the same video {videos[0]}"
        return Broken(where=where, reason=SAME_VIDEO, what=what, mend="Remove the row.")
    return Compared(
        where=where,
        prompt=asked,
        first=videos[0],
        second=videos[1],
        margins=margins or {},
        margin=margin,
        segments=segments,
        models=models,
        ratings=ratings or {},
    )


def labelled(
    source: Source, where: str, prompt: Any, cell: Any, desirable: bool, *, image: Any = None
) -> FileLabel | Broken:
    """A row of one labelled video, or why it is none."""
    video = _video(source, where, "video", cell)
    if isinstance(video, Broken):
        return video
    asked = _asked(source, where, prompt, image)
    if isinstance(asked, Broken):
        return asked
    return FileLabel(where=where, prompt=asked, video=video, desirable=desirable)


def _asked(source: Source, where: str, prompt: Any, image: Any) -> str | Broken:
    """The prompt, with its image where the cell names one."""
    if not isinstance(prompt, str) or not prompt.strip():
        what = f"prompt must be a text, got {prompt!r}"
        return Broken(where=where, reason=NO_PROMPT, what=what, mend="Fill it in or remove the row.")
    try:
        return prompt_of_cells(where, source.folder, prompt, image)
    except ReelignError as error:
        what = error.what.removeprefix(f"{where}: ")  # those who tell of broken rows say where they stand
        return Broken(where=where, reason=NO_IMAGE, what=what, mend=error.mend)


def _video(source: Source, where: str, name: str, cell: Any) -> Path | Broken:
    """The file that a cell names, relative to the source's folder; a cell of bytes is written to a file."""
    if isinstance(cell, dict):  # how `datasets` keeps a file: its path, or its bytes
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes):
        return _unpacked(source, cell)
    if not isinstance(cell, str | Path) or not str(cell).strip():
        what = f"{name} must be a text, got {cell!r}"
        return Broken(where=where, reason=NO_VIDEO, what=what, mend="Fill it in or remove the row.")
    try:
        path = (source.folder / Path(cell).expanduser()).resolve()
        there = path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # too long, no such user, a NUL
        what = f"{name} cannot be a path, got {str(cell)!r}: {error}"
        return Broken(where=where, reason=NO_VIDEO, what=what, mend="Correct it or remove the row.")
    if not there:
        what = f"the {name} video {path} does not exist"
        return Broken(where=where, reason=NO_VIDEO, what=what, mend=f"Paths start at the folder {source.folder}.")
    return path


def _unpacked(source: Source, content: bytes) -> Path:
    path = source.folder / UNPACKED / f"{hashlib.sha256(content).hexdigest()[:20]}.mp4"
    if not path.exists():
        try:
            with whole(path) as beside:
                beside.write_bytes(content)
        except OSError as error:
            raise ReelignError(
                f"the videos inside {source.path} cannot be written beside it: {error}", "Copy it to another folder."
            ) from error
    return path
