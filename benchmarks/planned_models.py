"""What aligning each published model takes, by the planner: `python benchmarks/planned_models.py [--models ...]`.

Writes `src/reelign/recipes/planning/planned_models.json`, the table of `reelign models --memory`, an entry at a time:
run again it plans what is not there yet, with `--anew` all of it. No weights and no device are needed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from reelign import __version__
from reelign.files import write_text
from reelign.generators.published import published_configs
from reelign.recipes.planning.planned_models import METHODS, in_short, usual_plan
from reelign.recipes.planning.planned_table import TABLE

GIB = 2**30


def main(models: list[str], methods: list[str], *, anew: bool) -> None:
    table: dict[str, Any] = json.loads(TABLE.read_text()) if TABLE.exists() else {"models": {}}
    failed: list[str] = []
    for method in methods:
        for model in models:
            entry = table["models"].setdefault(model, {})
            if method in entry and not anew:
                continue
            began = time.process_time()
            twin = next((each for each in table["models"] if same(each, model) and method in table["models"][each]), "")
            try:
                entry |= table["models"][twin] if twin else planned(model, method)
            except Exception as error:  # the others are planned all the same
                failed.append(f"{model}, {method}: {error!r}")
                print(f"FAILED {failed[-1]}", flush=True)
                continue
            table |= {"version": __version__, "date": f"{datetime.now(UTC):%Y-%m-%d}"}
            write_text(TABLE, json.dumps({**table, "models": in_order(table["models"])}, indent=1) + "\n")
            training = entry[method]["training"] / GIB
            print(f"{model}, {method}: {training:.1f} GiB, {time.process_time() - began:.0f} s of CPU", flush=True)
    if failed:
        sys.exit(f"{len(failed)} could not be planned: {'; '.join(failed)}")


def planned(model: str, method: str) -> dict[str, Any]:
    """A model's size and what a method takes of it."""
    found = usual_plan(model, method)
    size = found.size
    return {"size": [size.num_frames, size.height, size.width], method: asdict(in_short(found))}


def in_order(models: dict[str, Any]) -> dict[str, Any]:
    """The models and methods as they are listed, whenever they were planned; without what could not be."""
    names = ("size", *METHODS)
    ordered = {
        model: {name: models[model][name] for name in names if name in models[model]}
        for model in published_configs()
        if model in models
    }
    return {model: entry for model, entry in ordered.items() if entry}


def same(one: str, other: str) -> bool:
    """Whether two models have the same parts and sizes: a distilled one and the one that it comes from."""
    configs = [{**published_configs()[model], "_from": ""} for model in (one, other)]
    return one != other and configs[0] == configs[1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=published_configs(), default=list(published_configs()))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--anew", action="store_true")
    options = parser.parse_args()
    main(options.models, options.methods, anew=options.anew)
