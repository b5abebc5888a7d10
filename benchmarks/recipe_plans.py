"""The planned memory of recipe files as a table: `python benchmarks/recipe_plans.py recipes/*.yaml`.

The rows of docs/memory.md. A recipe whose settings no plan is for (`iterate`) is named and left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

from reelign.config import read_yaml
from reelign.memory_plans import plan_memory

GIB = 2**30


def main(files: list[str]) -> None:
    print("| recipe | learn, GiB | largest term of it | peak, GiB | host, GiB | forwards a step |\n" + "|---" * 6 + "|")
    for file in files:
        if "align" not in read_yaml(Path(file)):
            print(f"left out: {file} has no section align", file=sys.stderr)
            continue
        print(row(file), flush=True)


def row(file: str) -> str:
    """One recipe's line."""
    found = plan_memory([(file, read_yaml(Path(file)))])
    learn = next(stage for stage in found.stages if stage.name == "learn")
    counts = " + ".join(f"{count:,.4g} {name}" for name, count in found.forwards.items() if "graph" in name)
    cells = [
        f"`{Path(file).name}`",
        f"{learn.total / GIB:.1f}",
        learn.largest,
        f"{found.peak.total / GIB:.1f} ({found.peak.name})",
        f"{found.host / GIB:.1f}",
        counts,
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main(sys.argv[1:])
