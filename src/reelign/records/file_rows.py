"""What files of preferences say, row by row, before anything is decided: two videos compared, or one labelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reelign.errors import ReelignError
from reelign.records.segments import Segments

NO_PROMPT = "empty prompt"
NO_VIDEO = "missing video"
SAME_VIDEO = "the same video twice"
NO_IMAGE = "unreadable image"
BAD_VALUE = "unreadable value"


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """Two video files of one prompt, and how much better the first is."""

    where: str
    """File and row, for messages."""
    prompt: str
    """An `ImagePrompt` where the row names an image."""
    first: Path
    second: Path
    margins: dict[str, float] = field(default_factory=dict)
    """On each judged dimension: positive where the first is better, 0 a tie."""
    margin: float | None = None
    """Overall, where the file says it itself; None: it follows from the dimensions."""
    segments: Segments = ()
    """Parts with a verdict of their own, where `chosen` is the first video."""
    models: tuple[str, str] = ("", "")
    """What made the first and the second video, where the file says so."""
    ratings: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)
    """On each dimension the mean rating of the first and the second video by itself, where the file has them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileLabel:
    """A video file that people want or do not want."""

    where: str
    prompt: str
    video: Path
    desirable: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Broken:
    """A row that cannot be trained on."""

    where: str
    reason: str
    """Its kind, to be counted."""
    what: str
    mend: str


Row = Compared | FileLabel | Broken


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRows:
    """All that a file of preferences says."""

    path: Path
    format: str
    """Name of the reader, a key of `READERS`."""
    compared: list[Compared] = field(default_factory=list)
    labels: list[FileLabel] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)

    def refuse_broken(self) -> None:
        """Raise the first broken row's error with the count of the others; a file without any is fine."""
        if not self.broken:
            return
        first, others = self.broken[0], self.broken[1:]
        counts = ", ".join(f"{count} x {reason}" for reason, count in Counter(b.reason for b in others).items())
        more = f" (and {len(others)} more broken rows: {counts})" if others else ""
        mend = (
            f" `reelign pairs {self.path}` lists them, and with --out good.csv it writes the others." if others else ""
        )
        raise ReelignError(f"{first.where}: {first.what}{more}", first.mend + mend)


def sort_rows(path: Path, format: str, rows: Sequence[Row]) -> FileRows:
    return FileRows(
        path=path,
        format=format,
        compared=[row for row in rows if isinstance(row, Compared)],
        labels=[row for row in rows if isinstance(row, FileLabel)],
        broken=[row for row in rows if isinstance(row, Broken)],
    )
