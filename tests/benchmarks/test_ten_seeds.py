"""The script behind the table of seeds, on seeds small enough for a test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmark_scripts import benchmark
from cli.process import reelign
from cli.workspaces import HELD_OUT, SETTINGS, TRAIN
from reelign.errors import ReelignError
from reelign.opening import SECTIONS


@pytest.fixture(scope="module")
def scripts() -> Iterator[tuple[ModuleType, ...]]:
    with benchmark("ten_seeds", "ten_seeds_table") as found:
        yield found


class Commands:
    """Runs commands as the script does, counts them, and fails where it is told to."""

    def __init__(self, folder: Path, failing: str = "") -> None:
        self.folder, self.failing, self.run = folder, failing, []

    def __call__(self, *words: object) -> None:
        self.run.append(str(words[0]))
        if words[0] == self.failing:
            raise RuntimeError("reelign: The gradient at step 2 is not finite.\nLower the learning rate.")
        result = reelign(*words, folder=self.folder)
        if result.code:
            raise RuntimeError(result.err[-2000:])


def all_of(script: ModuleType, seed: int) -> Any:
    return script.Seeds([seed], [seed], [seed])


def small(folder: Path) -> dict[str, Path]:
    """Options that make a seed take seconds."""
    found = {}
    for name, text in (("prompts", "\n".join(TRAIN)), ("held_out", "\n".join(HELD_OUT)), ("settings", SETTINGS)):
        found[name] = folder / name
        found[name].write_text(text)
    return found


def test_a_list_of_seeds(scripts: tuple[ModuleType, ModuleType]) -> None:
    assert scripts[0].seeds_in("0-3,7") == [0, 1, 2, 3, 7]
    assert scripts[0].seeds_in("5") == [5]
    assert scripts[0].seeds_in("") == []


def test_a_seed_is_run_once_and_every_arm_is_in_the_table(scripts: tuple[ModuleType, ModuleType], tmp_path: Path):
    script, table = scripts
    options, seeds = small(tmp_path), tmp_path / "seeds"
    first = Commands(tmp_path, failing="export")
    script.run_seeds(seeds, all_of(script, 3), **options, command=first)
    table.write_table(seeds, tmp_path / "table.md")
    page = (tmp_path / "table.md").read_text()
    assert "Begun and not ended: seed 3 (reelign: The gradient at step 2 is not finite.)" in page
    assert "not ended |" in page

    again = Commands(tmp_path)
    script.run_seeds(seeds, all_of(script, 3), **options, command=again)
    assert again.run == ["init", "init", "demo", "export", "align", "evaluate", "report"]
    table.write_table(seeds, tmp_path / "table.md")
    page = (tmp_path / "table.md").read_text()
    assert "Begun and not ended: none" in page
    for wanted in ("base weights", "judges", "data mix", "config", "| VQ | MQ | TA |", "colour right", "diversity"):
        assert wanted in page
    assert "| seed | Flow-DPO | SFT on random own samples | chosen and rejected swapped | pairs as files |" in page
    gains = [
        json.loads((seeds / "seed-3" / arm / "runs" / run / "evaluation.json").read_text())["comparison"]["gain"]
        for arm, run in (("loop", "align"), ("loop", "sft-random"), ("loop", "swapped"), ("files", "align"))
    ]
    arms = page[page.index("## Controls") : page.index("## Cost")]
    (row,) = (line for line in arms.splitlines() if line.startswith("| 3 |"))
    assert [f"{gain:+.3f}" for gain in gains] == [cell.split()[0] for cell in row.split("|")[2:-1]]

    done = Commands(tmp_path)
    script.run_seeds(seeds, all_of(script, 3), **options, command=done)
    assert done.run == []


def test_a_seed_may_go_without_the_arm_of_files(scripts: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    begun(tmp_path, 1, result=result_of(0.1), arms=("loop",))
    done = Commands(tmp_path)
    scripts[0].run_seeds(tmp_path, scripts[0].Seeds([1], [1], [0]), None, None, None, command=done)
    assert done.run == []
    scripts[1].write_table(tmp_path, tmp_path / "table.md")
    page = (tmp_path / "table.md").read_text()
    assert "Begun and not ended: none" in page
    assert "| – |" in page


def test_a_seed_begun_with_other_settings_is_refused(scripts: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    options, seeds = small(tmp_path), tmp_path / "seeds"
    broken = Commands(tmp_path, failing="demo")
    scripts[0].run_seeds(seeds, all_of(scripts[0], 1), **options, command=broken)
    options["settings"].write_text(SETTINGS.replace("rank: 4", "rank: 8"))
    with pytest.raises(ReelignError, match="begun with other config"):
        scripts[0].run_seeds(seeds, all_of(scripts[0], 1), **options, command=broken)


def test_a_setting_added_later_counts_where_it_is_not_at_its_default(scripts: tuple[ModuleType, ModuleType]) -> None:
    @dataclass(frozen=True)
    class Optimiser:
        steps: int = 150
        later: float = 0.0

    @dataclass(frozen=True)
    class Later:
        trainer: Optimiser = Optimiser()
        run: str = "align"
        also_later: tuple[Optimiser, ...] = ()

    told = scripts[0].told
    assert told(Later(), "align") == {"trainer": {"steps": 150}, "run": "align"}
    assert told(Later(Optimiser(later=0.1)), "align")["trainer"] == {"steps": 150, "later": 0.1}
    assert told(Later(Optimiser(steps=1)), "align")["trainer"] == {"steps": 1}


def test_every_setting_known_at_first_is_told(scripts: tuple[ModuleType, ModuleType]) -> None:
    def keys(told: dict[str, Any], path: str) -> set[str]:
        found = set()
        for name, value in told.items():
            found |= {f"{path}.{name}"} | (keys(value, f"{path}.{name}") if isinstance(value, dict) else set())
        return found

    told = set().union(*(keys(scripts[0].told(kind(), name), name) for name, kind in SECTIONS.items()))
    of_other_objectives = {key for key in scripts[0].FIRST_FIELDS - told if key.startswith("align.objective.")}
    assert told == scripts[0].FIRST_FIELDS - of_other_objectives


def begun(
    folder: Path,
    seed: int,
    *,
    config: str = "c0",
    result: dict[str, Any] | None = None,
    arms: tuple[str, ...] = ("loop", "files"),
) -> None:
    own = folder / f"seed-{seed}"
    own.mkdir(parents=True)
    (own / "fixed.json").write_text(json.dumps({"judges": "j0", "config": config}))
    for arm in arms if result else ():
        run = own / arm / "runs" / "align"
        run.mkdir(parents=True)
        (run / "result.json").write_text(json.dumps(result))


def result_of(gain: float, *, down: bool = False) -> dict[str, Any]:
    each = {"gain": gain, "low": gain - 0.01, "high": gain + 0.01}
    return {
        **each,
        "win": {"wins": 5, "ties": 2, "losses": 1, "rate": 0.75},
        "dimensions": {"VQ": {**each, "significantly_down": down}},
        "measures": {"diversity": [0.5, 0.25]},
        "controls": {"swapped": {"what": "swapped", **each}},
        "seconds": {"init": 1, "align": 60.0, "align swapped": 61.0},
        "peak_memory_bytes": 1 << 30,
    }


def test_the_summary_counts_every_seed(scripts: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    for seed, gain, down in ((0, 0.02, False), (1, 0.03, False), (2, 0.005, False), (10, -0.2, True)):
        begun(tmp_path, seed, result=result_of(gain, down=down))
    begun(tmp_path, 4)
    scripts[1].write_table(tmp_path, tmp_path / "table.md")
    page = (tmp_path / "table.md").read_text()
    assert "above zero for 1 of 3 seeds other than the default, and lies above it for the default" in page
    assert "Dimensions significantly down: seed 10: VQ." in page
    assert "Begun and not ended: seed 4 (stopped)." in page
    assert "| 0 (default) | **+0.020 [+0.010, +0.030]** | +0.020 [+0.010, +0.030] | 75 % (5/2/1) |" in page
    assert "| 2 | 0.500 → 0.250 |" in page
    assert "| 1 s | 0 s | 0 s | 60 s | 0 s | 61 s | 61 s | 1.00 GiB |" in page
    assert page.index("| 2 |") < page.index("| 10 |")


def test_seeds_of_different_settings_make_no_table(scripts: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    begun(tmp_path, 1)
    begun(tmp_path, 2, config="c1")
    with pytest.raises(ReelignError, match="Seed 2 was run with other config than seed 1"):
        scripts[1].write_table(tmp_path, tmp_path / "table.md")
    assert not (tmp_path / "table.md").exists()
    with pytest.raises(ReelignError, match="holds no seed"):
        scripts[1].write_table(tmp_path / "empty", tmp_path / "table.md")
