"""`metrics.jsonl`, one object a step, whatever trackers there are beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from reelign.files import write_text


class MetricsLog:
    """Append-only metrics of a run.

    Args:
        folder: the run's folder.
        start: the step the run goes on from; lines of later steps, left by a killed run, are dropped.
    """

    def __init__(self, folder: Path, start: int) -> None:
        self.path = folder / "metrics.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        kept = [line for line in _whole_lines(self.path) if json.loads(line)["step"] <= start]
        write_text(self.path, "".join(f"{line}\n" for line in kept))
        self._file = self.path.open("a", buffering=1)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")

    def close(self) -> None:
        self._file.close()


def _whole_lines(path: Path) -> list[str]:
    """Complete lines; a kill can leave half a last one."""
    if not path.exists():
        return []
    text = path.read_text()
    lines = text.splitlines()
    return lines if text.endswith("\n") or not lines else lines[:-1]
