"""A folder per pair, each with a video `chosen`, a video `rejected` and `prompt.txt`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reelign.records.file_rows import Row
from reelign.records.readers.base import VIDEO_SUFFIXES, Reader, Source, compared


def recognise(source: Source) -> bool:
    return source.path.is_dir() and any(_side(folder, "chosen") for folder in source.path.iterdir() if folder.is_dir())


def read(source: Source) -> Iterator[Row]:
    for folder in sorted(path for path in source.folder.iterdir() if path.is_dir()):
        sides = [(name, _side(folder, name)) for name in ("chosen", "rejected")]
        if any(path for _, path in sides):
            text = folder / "prompt.txt"
            prompt = text.read_text(encoding="utf-8").strip() if text.is_file() else None
            yield compared(source, str(folder), prompt, sides[0], sides[1], margin=1.0)


def _side(folder: Path, name: str) -> Path | None:
    return next((path for path in sorted(folder.glob(f"{name}.*")) if path.suffix.lower() in VIDEO_SUFFIXES), None)


READER = Reader(what="a folder per pair with chosen.mp4, rejected.mp4 and prompt.txt", recognise=recognise, read=read)
