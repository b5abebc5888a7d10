"""Captioned videos as a file: a CSV or Parquet of (prompt, video), such as real clips to stay near to; with a column
`image` of what each goes on from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reelign.errors import ReelignError
from reelign.records.image_prompts import prompt_of_cells
from reelign.records.tables import read_columns

COLUMNS = ("prompt", "video")
IMAGE = "image"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileVideo:
    """A video file and what it shows."""

    prompt: str
    """An `ImagePrompt` where the row names an image."""
    video: Path


def read_videos(path: str | Path) -> list[FileVideo]:
    """Read captioned videos; relative paths in the file start at the file's own folder.

    Raises:
        ReelignError: an unreadable or empty file, a missing column, or a row with a missing value or video, or with an
            image that cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise ReelignError(f"no file of videos at {path}", "Check the path.")
    columns = read_columns(path)
    for name in COLUMNS:
        if name not in columns:
            raise ReelignError(
                f"{path} has no column {name!r}, only {', '.join(columns)}", "It needs the columns prompt and video."
            )
    images = columns.get(IMAGE, [None] * len(columns["video"]))
    rows = list(zip(columns["prompt"], columns["video"], images, strict=True))
    if not rows:
        raise ReelignError(f"{path} has no videos", "Write one row per video under the header.")
    return [_row(path, number, *row) for number, row in enumerate(rows, start=1)]


def _row(path: Path, number: int, prompt: object, video: object, image: object) -> FileVideo:
    where = f"{path}, row {number}"
    for name, value in zip(COLUMNS, (prompt, video), strict=True):
        if not isinstance(value, str) or not value.strip():
            raise ReelignError(f"{where}: {name} must be a text, got {value!r}", "Fill it in or remove the row.")
    try:
        file = (path.resolve().parent / Path(str(video)).expanduser()).resolve()
        there = file.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # too long, no such user, a NUL
        raise ReelignError(f"{where}: {video!r} cannot be a path: {error}", "Correct it or remove the row.") from error
    if not there:
        raise ReelignError(
            f"{where}: the video {file} does not exist",
            f"Paths start at the folder of the file, {path.resolve().parent}.",
        )
    return FileVideo(prompt=prompt_of_cells(where, path.resolve().parent, str(prompt), image), video=file)
