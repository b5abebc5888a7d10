"""The script behind the table of rounds: its settings hold, finished rounds are told apart, gains are those of the
round that was kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from benchmark_scripts import benchmark
from reelign.opening import resolve_section
from reelign.recipes.rounds.settings import IterateSettings


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with benchmark("iterate_evidence") as (found,):
        yield found


def rounds(seed: Path, *, run: str, gains: list[float], kept: int) -> None:
    """The record of rounds whose videos all gain as much on VQ over the base, and nothing on MQ."""
    own = seed / "runs" / run
    for number, gain in enumerate(gains):
        path = own / f"round-{number}" / "report.json"
        path.parent.mkdir(parents=True)
        scores = {"VQ": [0.5 + gain, 0.25 + gain, 0.5 + gain, None], "MQ": [0.5, 0.75, 0.5, 0.5]}
        path.write_text(json.dumps({"scores": scores}))
    done = {str(number): {} for number in range(len(gains))}
    whole = {"rounds": done, "best": {"round": kept}, "settings": {"report": {"seeds": 2}}}
    (own / "manifest.json").write_text(json.dumps(whole))


def test_every_arm_has_valid_settings(script: ModuleType) -> None:
    for arm in script.ARMS.values():
        own = script.merged(arm.settings, {"align": {"anchors": arm.anchors}, "selection": {"prompts": "some.txt"}})
        found = resolve_section("iterate", [("shared", script.SETTINGS["iterate"]), ("arm", own)])
        assert isinstance(found, IterateSettings)
        assert found.rounds == script.ROUNDS < found.patience


def test_the_table_has_the_gain_of_every_round_and_of_the_one_that_was_kept(script: ModuleType, tmp_path: Path) -> None:
    rounds(tmp_path / "seed-0", run="dpo", gains=[0.0, 0.1, 0.2, -0.1], kept=2)
    rounds(tmp_path / "seed-1", run="dpo", gains=[0.0, 0.1, 0.0, -0.1], kept=0)
    rounds(tmp_path / "seed-2", run="dpo", gains=[0.0, 0.4], kept=1)  # not finished
    page = tmp_path / "page.md"
    page.write_text("<!-- rounds: begin -->\n<!-- rounds: end -->\n")
    script.write_table(tmp_path, script.ARMS, page)
    (row,) = [line for line in page.read_text().splitlines() if line.startswith("| DPO, anchors")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == "2"
    assert cells[2:5] == ["+0.050 [+0.050, +0.050]", "+0.050 [+0.050, +0.050]", "-0.050 [-0.050, -0.050]"]
    assert cells[5:] == ["2, 0", "+0.050 [+0.050, +0.050]"]
