"""Answers kept on disk by what was asked: the same question of the same model is asked once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from reelign.critics.frames import Part, Shown
from reelign.critics.writing import Sampling, Writer, Written
from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.records.schema import content_key


class CachedWriter:
    """A writer that is asked only what it was not asked before.

    A key holds the writer's identity, every text and frame of the question in order, and the sampling. What could not
    be answered is not kept. Several processes may share a folder: a file is whole or not there.
    """

    def __init__(self, writer: Writer, folder: Path) -> None:
        self.writer, self.folder = writer, folder

    @property
    def identity(self) -> str:
        return self.writer.identity

    @property
    def concurrency(self) -> int:
        return self.writer.concurrency

    def write(self, parts: Sequence[Part], sampling: Sampling) -> Written:
        """As `Writer.write`; `cached` says whether it was kept."""
        path = self.path(parts, sampling)
        if path.exists():
            return _read(path)
        written = self.writer.write(parts, sampling)
        write_text(path, json.dumps(written.as_dict(), ensure_ascii=False))
        return written

    def path(self, parts: Sequence[Part], sampling: Sampling) -> Path:
        """Where the answer to a question is kept."""
        asked = [["video", part.content] if isinstance(part, Shown) else ["text", part] for part in parts]
        drawn = asdict(sampling)
        if not sampling.temperature:
            del drawn["seed"]  # of which the likeliest token takes no notice
        key = content_key(self.identity, asked, drawn)
        return self.folder / key[:2] / f"{key}.json"


def _read(path: Path) -> Written:
    try:
        return Written.read(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ReelignError(
            f"The kept answer {path} cannot be read: {type(error).__name__}: {error}", "Remove it; it is asked again."
        ) from error
