"""What aligning each published model takes in memory, planned once and kept: a plan runs for seconds to a minute.

`planned_models.json` is written by `benchmarks/planned_models.py`, which plans the methods of `planned_models` at each
model's usual size; `reelign models --memory` prints it.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("planned_models.json")


@functools.cache
def planned_table() -> dict[str, Any]:
    """`version` and `date` of its making, and by hub id under `models` the `size`, frames, height and width, and by
    method the bytes of `training` and of `encoding` before it on the device, and of the `host`."""
    found: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return found


def planned_methods() -> list[str]:
    """Those that each model was planned by, in the table's order."""
    first = next(iter(planned_table()["models"].values()))
    return [name for name in first if name != "size"]
