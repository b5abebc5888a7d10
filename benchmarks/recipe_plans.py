"""The planned memory of recipe files as a table: `python benchmarks/recipe_plans.py [--write] recipes/*.yaml`.

The rows of docs/memory.md. With `--write` each file's header says its own in a line; a line that is there is renewed.
What a plan cannot count is said in its place.
"""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime
from pathlib import Path

from reelign.config import read_yaml
from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.memory_plans import plan_memory
from reelign.recipes.planning.memory_plan import MemoryPlan
from reelign.recipes.planning.planned_models import in_short

GIB = 2**30
LINE = "# Planned memory: "


def main(files: list[str], *, write: bool) -> None:
    print("| recipe | learn, GiB | largest term of it | peak, GiB | host, GiB | forwards a step |\n" + "|---" * 6 + "|")
    for file in files:
        try:
            found = plan_memory([(file, read_yaml(Path(file)))])
        except ReelignError as error:
            said = f"none, {error.what[0].lower()}{error.what[1:].rstrip('.')}."
            print(f"left out: {file}: {error}", flush=True)
        else:
            said = line(found)
            print(row(file, found), flush=True)
        if write:
            write_text(Path(file), with_line(Path(file).read_text(encoding="utf-8"), said))


def row(file: str, found: MemoryPlan) -> str:
    """One recipe's line of the table."""
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


def line(found: MemoryPlan) -> str:
    """What a recipe's header says: the most while it trains, and while prompts and clips are encoded before."""
    short = in_short(found)
    host = f", host {short.host / GIB:.1f}" if short.host > GIB / 2 else ""
    return (
        f"{short.training / GIB:.1f} GiB to train, {short.encoding / GIB:.1f} to encode before{host}; "
        f"`reelign plan`, {datetime.now(UTC):%Y-%m-%d}, +10 to 15 %."
    )


def with_line(text: str, said: str) -> str:
    """A recipe whose header, the comments that it begins with, says so in its last line."""
    lines = re.sub(rf"^{LINE}.*\n", "", text, flags=re.MULTILINE).splitlines(keepends=True)
    end = next(index for index, each in enumerate(lines) if not each.startswith("#"))
    return "".join([*lines[:end], f"{LINE}{said}\n", *lines[end:]])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--write", action="store_true", help="say it in each file's header too")
    options = parser.parse_args()
    main(options.files, write=options.write)
