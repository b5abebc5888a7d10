"""A run's result and report, written from what its stages left behind."""

from __future__ import annotations

import html
import json
import math
from pathlib import Path

import pytest

from cli.process import succeed
from cli.workspaces import HELD_OUT, TRAIN, copy, finished
from reelign.files import write_text
from reelign.records import Workspace
from reelign.reporting import ranked_samples


def test_the_result_holds_every_number_of_the_comparison() -> None:
    result = json.loads((finished() / "runs" / "align" / "result.json").read_text())
    assert {"gain", "low", "high", "win_rate", "dimensions", "seconds", "peak_memory_bytes"} <= result.keys()
    assert result["low"] <= result["gain"] <= result["high"]
    assert 0 <= result["win_rate"] <= 1
    assert set(result["dimensions"]) == {"VQ", "MQ", "TA"}
    for each in result["dimensions"].values():
        assert {"base", "aligned", "gain", "low", "high"} <= each.keys()
        assert each["gain"] == pytest.approx(each["aligned"] - each["base"], abs=1e-6)
    assert result["gain"] == pytest.approx(sum(each["gain"] for each in result["dimensions"].values()) / 3, abs=1e-6)
    assert result["failed"] == []


def test_the_report_is_one_file_with_videos_prompts_and_config() -> None:
    page = (finished() / "runs" / "align" / "report.html").read_text()
    assert page.count("data:video/mp4;base64,") >= 2
    for wanted in (*HELD_OUT, "learning_rate", "implicit", "diffusers"):
        assert wanted in page
    assert TRAIN[0] not in page
    for loaded in ('src="http', 'href="http', "src='http", "@import"):
        assert loaded not in page


def test_what_is_shown_runs_from_the_largest_gain_to_the_largest_loss(tmp_path: Path) -> None:
    run = copy(tmp_path) / "runs" / "align"
    kept = json.loads((run / "evaluation.json").read_text())
    pairs = len(kept["base"])
    assert pairs >= 4
    for name in kept["base_scores"]:
        kept["base_scores"][name] = [0.0] * pairs
        # The gains of the pairs in their order: 0.2, 0.3, 0, 0.1, ...; the last one was not scored.
        kept["aligned_scores"][name] = [(pair + 2) % pairs / 10 for pair in range(pairs - 1)] + [math.nan]
    write_text(run / "evaluation.json", json.dumps(kept))
    opened = Workspace.open(run.parents[1])
    for count, wanted in ((2, [(pairs - 1) / 10, 0.0]), (1, [(pairs - 1) / 10]), (99, None)):
        shown, _ = ranked_samples(opened, json.loads((run / "evaluation.json").read_text()), count)
        gains = [sample.aligned_scores["VQ"] for sample in shown]
        assert gains == sorted(gains, reverse=True)
        assert len(gains) == min(count, pairs - 1)
        assert wanted is None or gains == wanted


def test_a_pair_that_is_left_out_is_named_by_its_prompt(tmp_path: Path) -> None:
    run = copy(tmp_path) / "runs" / "align"
    kept = json.loads((run / "evaluation.json").read_text())
    kept["aligned_scores"]["VQ"][-1] = math.nan
    write_text(run / "evaluation.json", json.dumps(kept))
    succeed("report", "-w", "ws", folder=tmp_path)
    page = html.unescape((run / "report.html").read_text())
    assert f"because a sample failed: {HELD_OUT[-1]!r}, seed 1 (aligned)." in page


def test_the_report_command_alone_says_what_every_stage_cost() -> None:
    result = json.loads((finished() / "runs" / "align" / "result.json").read_text())
    assert list(result["seconds"]) == ["init", "generate", "judge", "align", "evaluate"]
    assert all(seconds > 0 for name, seconds in result["seconds"].items() if name != "init")
    assert 100 << 20 < result["peak_memory_bytes"] < 4 << 30
    page = (finished() / "runs" / "align" / "report.html").read_text()
    assert "peak memory" in page
    assert "<dt>in all</dt>" in page


def test_a_stage_run_twice_costs_both_times(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    before = json.loads((workspace / "runs" / "align" / "result.json").read_text())["seconds"]
    succeed("generate", "-w", workspace, folder=tmp_path)
    succeed("report", "-w", workspace, folder=tmp_path)
    after = json.loads((workspace / "runs" / "align" / "result.json").read_text())["seconds"]
    assert after["generate"] > before["generate"]
    assert {**after, "generate": 0} == {**before, "generate": 0}


def test_runs_that_should_not_gain_stand_beside_the_one_that_should(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    other = ["trainer.steps=1", "objective.name=sft", "objective.on=random"]
    succeed("align", "-w", workspace, "run=swapped", "swap=true", "trainer.steps=1", folder=tmp_path)
    succeed("evaluate", "-w", workspace, "run=swapped", folder=tmp_path)
    # Not evaluated alike, and not evaluated at all: neither can be held against the gain.
    succeed("align", "-w", workspace, "run=sft-random", *other, folder=tmp_path)
    succeed("evaluate", "-w", workspace, "run=sft-random", "seeds=1", folder=tmp_path)
    succeed("align", "-w", workspace, "run=sft-too", *other, folder=tmp_path)
    succeed("report", "-w", workspace, folder=tmp_path)
    run = workspace / "runs" / "align"
    result = json.loads((run / "result.json").read_text())
    assert {name: control["what"] for name, control in result["controls"].items()} == {
        "swapped": "chosen and rejected swapped"
    }
    kept = json.loads((workspace / "runs" / "swapped" / "evaluation.json").read_text())["comparison"]
    for number in ("gain", "low", "high"):
        assert result["controls"]["swapped"][number] == pytest.approx(kept[number])
    assert {"align swapped", "evaluate swapped"} <= result["seconds"].keys()
    assert "swapped: chosen and rejected swapped" in (run / "report.html").read_text()
