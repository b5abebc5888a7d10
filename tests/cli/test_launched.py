"""`torchrun -m reelign align` and `accelerate launch -m reelign align`, as users type them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cli.process import succeed
from cli.workspaces import copy

BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
WITHIN_S = 300
LEARNING_RATE = 1e-3  # of the workspaces
TORCHRUN = (BIN / "torchrun", "--standalone", "--nproc_per_node", 2, "-m", "reelign")


def launch(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(word) for word in words]
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )


def adapter(workspace: Path, run: str) -> dict[str, torch.Tensor]:
    return load_file(workspace / "runs" / run / "adapter" / "pytorch_lora_weights.safetensors")


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Equal but for the order in which gradients are added up.

    Adam's first steps are as long for a gradient of rounding size as for any other: one weight in a hundred may differ
    by up to a step.
    """
    assert one.keys() == other.keys()
    for name in one:
        apart = (one[name] - other[name]).abs()
        assert (apart > 2e-5 + 1e-3 * other[name].abs()).float().mean() < 0.01, name
        assert apart.max() <= LEARNING_RATE, name


def test_torchrun_trains_in_two_ranks_and_prints_once(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    done = launch(*TORCHRUN, "align", "-w", workspace, "run=both", "batch_size=1", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the adapter is") == 1
    assert "align both" in done.stderr
    succeed("align", "-w", workspace, "run=alone", "batch_size=2", folder=tmp_path)
    assert_close(adapter(workspace, "both"), adapter(workspace, "alone"))
    costs = (workspace / "costs.jsonl").read_text()
    assert costs.count('"run": "both"') == 1


@pytest.mark.slow
def test_one_process_of_accelerate_is_the_plain_command(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    words = ("launch", "--num_processes", 1, "-m", "reelign", "align", "-w", workspace, "run=launched")
    done = launch(BIN / "accelerate", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    succeed("align", "-w", workspace, "run=plain", folder=tmp_path)
    one, other = adapter(workspace, "launched"), adapter(workspace, "plain")
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_bad_input_is_said_once(tmp_path: Path) -> None:
    done = launch(*TORCHRUN, "align", "-w", copy(tmp_path), "run=x", "trainer.steps=0", folder=tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("reelign: ") == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_rank_and_ctrl_c_end_all_and_the_same_command_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    workspace = copy(tmp_path)
    words = ("align", "-w", workspace, "run=both", "trainer.steps=60", "trainer.checkpoint_every=5")
    shutil.copytree(workspace, tmp_path / "other")
    whole = launch(*TORCHRUN, "align", "-w", tmp_path / "other", *words[3:], folder=tmp_path)
    assert whole.returncode == 0, whole.stderr
    command = [str(word) for word in (*TORCHRUN, *words)]
    started = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    log = workspace / "runs" / "both" / "metrics.jsonl"
    until = time.monotonic() + WITHIN_S
    while not log.exists() or len(log.read_text().splitlines()) < 8:
        assert time.monotonic() < until
        assert started.poll() is None
        time.sleep(0.01)
    os.kill(started.pid if number == signal.SIGINT else _last_rank(started.pid), number)
    _, err = started.communicate(timeout=WITHIN_S)
    assert started.returncode != 0, err
    again = launch(*command, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    one, other = adapter(workspace, "both"), adapter(tmp_path / "other", "both")
    assert all(torch.equal(one[name], other[name]) for name in one)


def _last_rank(launcher: int) -> int:
    return max(int(pid) for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split())
