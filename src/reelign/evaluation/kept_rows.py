"""What was found out, a line of JSON each, added as it is found: a kill costs the last line at most."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class KeptRows:
    """Rows by their key.

    Args:
        path: of the file; made with the first row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        for line in path.read_bytes().splitlines() if path.exists() else ():
            try:
                row = json.loads(line)
            except ValueError:
                continue  # cut short by a kill, and found out again
            self.rows[row.pop("key")] = row

    def add(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        """Write some rows down."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({"key": key, **row}, ensure_ascii=False) + "\n" for key, row in found.items()]
        with self.path.open("a+b") as file:
            # A line that was cut short has no end: the first new one must not grow onto it.
            file.seek(max(0, file.seek(0, 2) - 1))
            torn = file.read(1) not in (b"", b"\n")
            file.write(("\n" * torn + "".join(lines)).encode())
        self.rows.update({key: dict(row) for key, row in found.items()})
