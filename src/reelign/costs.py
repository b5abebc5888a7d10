"""What the stages cost: a line a call in the workspace, so that costs add up over processes and interruptions."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

COSTS_FILE = "costs.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """One call of a stage."""

    stage: str
    run: str
    """The run it worked for; empty where the work serves every run of the workspace."""
    seconds: float
    peak_memory_bytes: int
    finished: bool
    """Not so for a call that was interrupted or refused; its time was spent all the same."""


@contextlib.contextmanager
def measured(root: Path, stage: str, run: str = "") -> Iterator[None]:
    """Note what the block costs, also where it ends in an error; a killed process leaves no note."""
    began = time.perf_counter()
    finished = False
    try:
        yield
        finished = True
    finally:
        cost = Cost(
            stage=stage,
            run=run,
            seconds=round(time.perf_counter() - began, 2),
            peak_memory_bytes=peak_memory_bytes(),
            finished=finished,
        )
        # A disk too full for this line is about to be reported by the stage itself.
        with contextlib.suppress(OSError), (root / COSTS_FILE).open("a") as file:
            file.write(json.dumps(asdict(cost)) + "\n")


def read_costs(root: Path, runs: Collection[str]) -> list[Cost]:
    """The costs noted for these runs and for all runs; a line cut short by a full disk is passed over."""
    path = root / COSTS_FILE
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError, TypeError):
            found.append(Cost(**json.loads(line)))
    return [cost for cost in found if cost.run in ("", *runs)]


def seconds_per_stage(costs: list[Cost], run: str) -> dict[str, float]:
    """Seconds of each stage over all its calls, in the order of their first; those of other runs carry their name."""
    seconds: dict[str, float] = {}
    for cost in costs:
        name = cost.stage if cost.run in ("", run) else f"{cost.stage} {cost.run}"
        seconds[name] = round(seconds.get(name, 0.0) + cost.seconds, 2)
    return seconds


def peak_memory_bytes() -> int:
    """The most main memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():
        # The kernel's own count of this program; getrusage would add that of the one that started it.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
