"""Files that are whole or not there: written beside their place and renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reelign.errors import ReelignError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; at the end of the block the file takes its place.

    A kill, a full disk or an error in the block leaves what was there before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole(path) as beside:
        beside.write_text(text, encoding="utf-8")


def prepare_file(path: Path) -> None:
    """Make the folder of a file that a command shall write, before the time that its content takes and not after.

    Raises:
        ReelignError: nothing can be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        taken = path.is_dir() or not os.access(path.parent, os.W_OK)
    except (OSError, ValueError) as error:
        raise ReelignError(f"{path} cannot be written: {error}.", "Give another place: --out FILE.mp4") from error
    if taken:
        raise ReelignError(f"{path} is a folder or in one that cannot be written.", "Give a file: --out FILE.mp4")
