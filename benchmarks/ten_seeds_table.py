"""The table of `ten_seeds.py`: every seed that was begun, from the results in its folder."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelign.errors import ReelignError
from reelign.files import write_text

LOOP, FILES = "loop", "files"
"""The workspaces of a seed: the demo's own, and the one that takes its pairs as files."""
RESULT = "runs/align/result.json"
FIXED = "fixed.json"
FAILED = "failed.txt"
STAGES = ("init", "generate", "judge", "align", "evaluate")
DEFAULT_SEED = 0


@dataclass(frozen=True)
class Seed:
    """What a seed's folder holds; a result is None where its run did not end."""

    number: int
    fixed: dict[str, str]
    loop: dict[str, Any] | None
    files: dict[str, Any] | None
    wants_files: bool
    failure: str


def write_table(folder: Path, path: Path) -> None:
    """Write the table of every seed in the folder.

    Raises:
        ReelignError: there is none, or they were not run with the same weights, judges, data and settings.
    """
    seeds = read_seeds(folder)
    for seed in seeds:
        if seed.fixed != seeds[0].fixed:
            raise ReelignError(
                f"Seed {seed.number} was run with other {_differing(seed, seeds[0])} than seed {seeds[0].number}.",
                "Run all seeds with the same; a table of both would say nothing.",
            )
    write_text(path, "\n\n".join([_head(seeds), _gains(seeds), _measures(seeds), _arms(seeds), _costs(seeds)]) + "\n")


def read_seeds(folder: Path) -> list[Seed]:
    """Every seed that was begun, by number."""
    found = [
        Seed(
            number=int(path.parent.name.removeprefix("seed-")),
            fixed=json.loads(path.read_text()),
            loop=_read(path.parent / LOOP / RESULT),
            files=_read(path.parent / FILES / RESULT),
            wants_files=(path.parent / FILES).exists(),
            failure=(path.parent / FAILED).read_text() if (path.parent / FAILED).exists() else "",
        )
        for path in folder.glob(f"seed-*/{FIXED}")
    ]
    if not found:
        raise ReelignError(f"{folder} holds no seed.", "Run some first.")
    return sorted(found, key=lambda seed: seed.number)


def has_controls(result: Path) -> bool:
    """Whether a result holds the controls beside the run."""
    return bool(json.loads(result.read_text())["controls"])


def _head(seeds: Sequence[Seed]) -> str:
    fixed = _table(["fixed before the first seed", "sha256"], [[k, f"`{v}`"] for k, v in seeds[0].fixed.items()])
    done = [seed for seed in seeds if seed.loop]
    others = [seed.loop for seed in done if seed.number != DEFAULT_SEED and seed.loop]
    up = sum(result["low"] > 0 for result in others)
    down = [
        f"seed {seed.number}: {name}"
        for seed in done
        for name, each in (seed.loop or {})["dimensions"].items()
        if each["significantly_down"]
    ]
    default = next((seed.loop for seed in done if seed.number == DEFAULT_SEED), None)
    lines = [
        f"The gain's 95 % interval lies above zero for {up} of {len(others)} seeds other than the default"
        + (f", and {'lies' if default['low'] > 0 else 'does NOT lie'} above it for the default." if default else "."),
        f"Dimensions significantly down: {'; '.join(down) or 'none'}.",
        f"Begun and not ended: {', '.join(_unfinished(seeds)) or 'none'}.",
    ]
    where = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return "\n\n".join(
        [
            f"# The demo over {len(seeds)} seeds",
            f"Written by `benchmarks/ten_seeds.py` on {time.strftime('%Y-%m-%d')} ({where}). Every seed that was begun "
            "is in the tables. A gain is the change of the mean true reward on held-out prompts from base to aligned, "
            "with the same noise; in brackets the 95 % interval of a paired bootstrap over prompts.",
            fixed,
            "\n".join(f"- {line}" for line in lines),
        ]
    )


def _unfinished(seeds: Sequence[Seed]) -> list[str]:
    return [
        f"seed {seed.number} ({seed.failure.splitlines()[0] if seed.failure else 'stopped'})"
        for seed in seeds
        if not seed.loop or (seed.wants_files and not seed.files)
    ]


def _gains(seeds: Sequence[Seed]) -> str:
    names = _names(seeds, "dimensions")
    rows = []
    for seed, result in _ended(seeds):
        wins = result["win"]
        rows.append(
            [
                _label(seed),
                f"**{_gain(result)}**",
                *(_gain(result["dimensions"][name]) for name in names),
                f"{100 * wins['rate']:.0f} % ({wins['wins']}/{wins['ties']}/{wins['losses']})",
            ]
        )
    return "## Gains\n\n" + _table(["seed", "mean", *names, "win rate (won/tied/lost)"], rows)


def _measures(seeds: Sequence[Seed]) -> str:
    names = _names(seeds, "measures")
    rows = [
        [_label(seed), *("{:.3f} → {:.3f}".format(*result["measures"][name]) for name in names)]
        for seed, result in _ended(seeds)
    ]
    return "## Measures that labelled nothing, before → after\n\n" + _table(["seed", *names], rows)


def _arms(seeds: Sequence[Seed]) -> str:
    """Beside each gain: what it is held against, and the same pairs as files through the VAE."""
    names = _names(seeds, "controls")
    what = {name: result["controls"][name]["what"] for _, result in _ended(seeds) for name in result["controls"]}
    rows = []
    for seed, result in _ended(seeds):
        controls = [_gain(result["controls"][name]) if name in result["controls"] else "–" for name in names]
        files = _gain(seed.files) if seed.wants_files else "–"
        rows.append([_label(seed), _gain(result), *controls, files])
    title = "## Controls, and the same pairs as mp4 files in a fresh workspace\n\n"
    return title + _table(["seed", "Flow-DPO", *(what[name] for name in names), "pairs as files"], rows)


def _costs(seeds: Sequence[Seed]) -> str:
    rows = []
    for seed, result in _ended(seeds):
        seconds = result["seconds"]
        own = [seconds.get(stage, 0.0) for stage in STAGES]
        controls = sum(value for name, value in seconds.items() if name not in STAGES)
        times = [f"{value:.0f} s" for value in (*own, sum(own), controls)]
        rows.append([_label(seed), *times, f"{result['peak_memory_bytes'] / 2**30:.2f} GiB"])
    return "## Cost\n\n" + _table(["seed", *STAGES, "in all", "both controls", "peak memory"], rows)


def _ended(seeds: Sequence[Seed]) -> list[tuple[Seed, dict[str, Any]]]:
    return [(seed, seed.loop) for seed in seeds if seed.loop is not None]


def _names(seeds: Sequence[Seed], key: str) -> list[str]:
    return list(dict.fromkeys(name for _, result in _ended(seeds) for name in result[key]))


def _label(seed: Seed) -> str:
    return f"{seed.number} (default)" if seed.number == DEFAULT_SEED else str(seed.number)


def _gain(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "not ended"
    gain, low, high = (found[name] for name in ("gain", "low", "high"))
    return "failed" if math.isnan(gain) else f"{gain:+.3f} [{low:+.3f}, {high:+.3f}]"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _differing(one: Seed, other: Seed) -> str:
    return ", ".join(name for name in one.fixed if one.fixed[name] != other.fixed.get(name))


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text()) if path.exists() else None
