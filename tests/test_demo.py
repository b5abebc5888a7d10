"""The whole demo as a newcomer runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from cli.process import SCRIPT, refusal, succeed
from cli.process import reelign as run_command
from cli.workspaces import HELD_OUT, SETTINGS, TRAIN, make
from reelign.records import Workspace

MINUTES = 6
GIB = 4


@pytest.fixture(scope="module")
def small_demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo with its controls, one step of training each, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    workspace = make(folder, settings=SETTINGS.replace("steps: 2", "steps: 1"))
    return workspace, succeed("demo", "ws", "--controls", "--seed", 3, folder=folder)


def test_the_demo_takes_the_prompts_and_settings_of_a_workspace_that_is_there(small_demo: tuple[Path, str]) -> None:
    workspace = Workspace.open(small_demo[0])
    assert [prompt.text for prompt in workspace.prompts()] == [*TRAIN, *HELD_OUT]
    assert len(workspace.videos("train")) == 9


def test_the_demo_ends_with_gain_report_and_the_lines_of_plain_diffusers(small_demo: tuple[Path, str]) -> None:
    workspace, printed = small_demo
    stages = ["prompts", "generate", "judge", "align", "evaluate", "control: sft-random", "control: swapped", "report"]
    assert re.findall(r"^== (.*)$", printed, re.MULTILINE) == stages
    assert "interval of the gain is" in printed
    assert str(workspace / "runs" / "align" / "report.html") in printed
    assert str(workspace / "runs" / "align" / "adapter") in printed.splitlines()[-2]


def test_another_seed_in_the_same_folder_is_refused_before_anything_is_made(small_demo: tuple[Path, str]) -> None:
    workspace = Workspace.open(small_demo[0])
    before = len(workspace.videos())
    result = run_command("demo", "ws", "--seed", 4, folder=small_demo[0].parent)
    assert "begun with seed 3" in refusal(result)
    assert "reelign demo OTHER-FOLDER --seed 4" in refusal(result)
    assert len(workspace.videos()) == before


def test_both_controls_are_trained_on_the_same_data_and_evaluated_alike(small_demo: tuple[Path, str]) -> None:
    runs = {run: small_demo[0] / "runs" / run for run in ("align", "sft-random", "swapped")}
    configs = {run: yaml.safe_load((folder / "config.yaml").read_text()) for run, folder in runs.items()}
    assert len({config["data"] for config in configs.values()}) == 1
    assert {run: config["align"]["swap"] for run, config in configs.items()} == {
        "align": False,
        "sft-random": False,
        "swapped": True,
    }
    assert configs["align"]["align"]["objective"]["name"] == configs["swapped"]["align"]["objective"]["name"] == "dpo"
    assert configs["sft-random"]["align"]["objective"]["name"] == "sft"
    assert configs["sft-random"]["align"]["objective"]["on"] == "random"
    assert {config["align"]["seed"] for config in configs.values()} == {3}
    kept = {run: json.loads((folder / "evaluation.json").read_text()) for run, folder in runs.items()}
    assert len({tuple(each["base"]) for each in kept.values()}) == 1
    assert len({tuple(each["aligned"]) for each in kept.values()}) == 3


def test_the_swapped_control_is_pushed_exactly_the_other_way(small_demo: tuple[Path, str]) -> None:
    # From the reference both sides of a pair have the same weight in the gradient: one step goes there or back.
    own, swapped = (
        load_file(small_demo[0] / "runs" / run / "adapter" / "pytorch_lora_weights.safetensors")
        for run in ("align", "swapped")
    )
    for name, weight in own.items():
        if name.endswith("lora_B.weight"):
            assert weight.abs().max() > 1e-5
            # Adam's first step is the sign of the gradient, but for gradients as small as its epsilon.
            torch.testing.assert_close(swapped[name], -weight, rtol=1e-3, atol=2e-5)
        else:
            assert torch.equal(swapped[name], weight)


def test_the_result_holds_both_controls_with_their_intervals(small_demo: tuple[Path, str]) -> None:
    run = small_demo[0] / "runs" / "align"
    controls = json.loads((run / "result.json").read_text())["controls"]
    assert {name: control["what"] for name, control in controls.items()} == {
        "sft-random": "SFT on random own samples",
        "swapped": "chosen and rejected swapped",
    }
    page = (run / "report.html").read_text()
    for name, control in controls.items():
        assert control["low"] <= control["gain"] <= control["high"]
        assert f"{name}: {control['what']}" in page


@pytest.mark.alone
@pytest.mark.slow
def test_the_demo_ends_in_time_and_memory_with_a_result_and_a_report(tmp_path: Path) -> None:
    began = time.monotonic()
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        process = subprocess.Popen([str(SCRIPT), "demo"], cwd=tmp_path, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    assert os.waitstatus_to_exitcode(status) == 0, (tmp_path / "err").read_text()
    run = tmp_path / "demo" / "runs" / "align"
    result = json.loads((run / "result.json").read_text())
    assert 0 < result["low"] <= result["gain"] <= result["high"]
    assert set(result["dimensions"]) == {"VQ", "MQ", "TA"}
    assert set(result["seconds"]) == {"init", "generate", "judge", "align", "evaluate"}
    assert 0 < result["peak_memory_bytes"] <= GIB << 30
    assert usage.ru_maxrss * 1024 <= GIB << 30
    assert (run / "report.html").stat().st_size > 100_000
    printed = (tmp_path / "out").read_text()
    assert re.search(r"[+-]\d\.\d+ \[[+-]\d\.\d+, [+-]\d\.\d+\]", printed)
    assert str(run / "report.html") in printed
    assert "load_lora_weights" in printed
    assert seconds <= MINUTES * 60
