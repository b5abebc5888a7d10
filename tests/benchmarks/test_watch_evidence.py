"""The script behind the table of the watch: its settings hold, its prompts are apart, its endings are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from benchmark_scripts import benchmark
from evaluation.watched_runs import watched_run
from reelign.opening import resolve_section
from reelign.recipes.online.settings import OnlineSettings
from reelign.spriteworld.prompts import train_captions


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with benchmark("watch_evidence") as (found,):
        yield found


def test_every_arm_has_valid_settings(script: ModuleType) -> None:
    for arm in script.ARMS.values():
        found = resolve_section("align", [("shared", script.SETTINGS["align"]), ("arm", arm.settings)])
        assert isinstance(found, OnlineSettings)
        assert found.watch.every
        assert found.judge.removeprefix("reward:") not in found.watch.held_out


def test_the_watch_looks_at_prompts_that_nothing_trains_on(script: ModuleType) -> None:
    trained, watched = script.split(train_captions())
    assert len(watched) == script.SETTINGS["align"]["watch"]["count"]
    assert sorted([*trained, *watched]) == sorted(train_captions())


def test_endings_name_the_first_alarm_and_the_best_look(script: ModuleType, tmp_path: Path) -> None:
    watched_run(tmp_path / "seed-0" / "runs" / "sharp", hacked=True)
    watched_run(tmp_path / "seed-1" / "runs" / "sharp", hacked=False)
    told = script.endings(tmp_path, "sharp")
    assert told == " (first alarm 80, stopped at 120, best look 60; first alarm none, not stopped)"
    assert script.endings(tmp_path, "none") == ""
