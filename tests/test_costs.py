"""What stages cost is noted call by call, and added up by stage."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from reelign.costs import COSTS_FILE, measured, peak_memory_bytes, read_costs, seconds_per_stage


def test_calls_add_up_by_stage_and_other_runs_carry_their_name(tmp_path: Path) -> None:
    for stage, run in (("generate", ""), ("align", "one"), ("generate", ""), ("align", "two"), ("align", "three")):
        with measured(tmp_path, stage, run):
            time.sleep(0.02)
    costs = read_costs(tmp_path, {"one", "two"})
    assert [cost.run for cost in costs] == ["", "one", "", "two"]
    seconds = seconds_per_stage(costs, "one")
    assert list(seconds) == ["generate", "align", "align two"]
    assert seconds["generate"] == pytest.approx(sum(cost.seconds for cost in costs if cost.stage == "generate"))
    assert seconds["generate"] >= 0.04


def test_an_interrupted_call_is_noted_as_such(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), measured(tmp_path, "align", "one"):
        raise KeyboardInterrupt
    (cost,) = read_costs(tmp_path, {"one"})
    assert not cost.finished


def test_half_a_line_is_passed_over_and_no_file_is_no_cost(tmp_path: Path) -> None:
    assert read_costs(tmp_path, {"one"}) == []
    with measured(tmp_path, "judge"):
        pass
    with (tmp_path / COSTS_FILE).open("a") as file:
        file.write('{"stage": "ali')
    assert [cost.stage for cost in read_costs(tmp_path, ())] == ["judge"]


def test_a_full_disk_does_not_hide_what_the_stage_itself_says(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="its own error"), measured(tmp_path / "gone", "align"):
        raise RuntimeError("its own error")


def test_the_peak_is_this_programs_own() -> None:
    held = bytearray(300 << 20)
    assert peak_memory_bytes() > len(held)
    # A small program started by a large one has not held what the large one holds.
    code = "from reelign.costs import peak_memory_bytes; print(peak_memory_bytes())"
    small = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 5 << 20 < small < 100 << 20
