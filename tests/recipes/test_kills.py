"""Real processes, killed and interrupted: the same call again ends with the very weights of an undisturbed run."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from recipes.long_run import run

STEPS = 24
# One server imports the libraries once and forks a fresh process for each run.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["reelign.recipes.offline.align", "diffusers.pipelines.wan.pipeline_wan"])


def start(model: Path, folder: Path, checkpoint_every: int = 2) -> BaseProcess:
    process = PROCESSES.Process(target=run, args=(str(model), folder, STEPS, checkpoint_every))
    process.start()
    return process


def log(folder: Path) -> Path:
    return folder / "runs" / "killed" / "metrics.jsonl"


def lines_kept(folder: Path) -> list[str]:
    """What the log says of the steps up to the newest checkpoint."""
    newest = max((folder / "runs" / "killed" / "checkpoints").glob("step-*"))
    return log(folder).read_text().splitlines()[: int(newest.name.removeprefix("step-"))]


def steps_logged(folder: Path) -> list[int]:
    path = log(folder)
    if not path.exists():
        return []
    return [json.loads(line)["step"] for line in path.read_text().split("\n")[:-1]]


def stop_at(process: BaseProcess, folder: Path, step: int, number: signal.Signals) -> None:
    """Send the signal as soon as the run has logged the step."""
    until = time.monotonic() + 60
    while not (logged := steps_logged(folder)) or logged[-1] < step:
        assert process.is_alive(), f"ended before step {step}"
        assert time.monotonic() < until
        time.sleep(0.002)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join()


def finish(model: Path, folder: Path) -> dict[str, torch.Tensor]:
    """Run to the end and return all that it leaves: adapter, trained weights and their average."""
    process = start(model, folder)
    process.join()
    assert process.exitcode == 0
    last = folder / "runs" / "killed" / "checkpoints" / f"step-{STEPS:06d}"
    files = [*last.glob("*.safetensors"), folder / "runs" / "killed" / "adapter" / "pytorch_lora_weights.safetensors"]
    assert len(files) == 3
    return {f"{file.name}:{name}": tensor for file in files for name, tensor in load_file(file).items()}


@pytest.fixture(scope="module")
def undisturbed(tiny_wan_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return finish(tiny_wan_folder, tmp_path_factory.mktemp("undisturbed"))


def test_a_run_killed_at_three_random_steps_ends_as_if_never_killed(
    tiny_wan_folder: Path, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
) -> None:
    places = sorted(random.sample(range(4, STEPS - 6), 3))
    print(f"killed at {places}")
    kept: list[str] = []
    for place in places:
        process = start(tiny_wan_folder, tmp_path)
        stop_at(process, tmp_path, place, signal.SIGKILL)
        assert process.exitcode == -signal.SIGKILL
        kept = lines_kept(tmp_path)
        assert kept
    found = finish(tiny_wan_folder, tmp_path)
    # Lines carry the seconds of their step: a run that had started afresh would have other ones.
    assert log(tmp_path).read_text().splitlines()[: len(kept)] == kept
    assert found.keys() == undisturbed.keys()
    assert all(torch.equal(found[name], undisturbed[name]) for name in found)
    assert steps_logged(tmp_path) == list(range(1, STEPS + 1))


def test_ctrl_c_leaves_a_checkpoint_of_its_step_and_fails(
    tiny_wan_folder: Path, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
) -> None:
    process = start(tiny_wan_folder, tmp_path, checkpoint_every=2)
    stop_at(process, tmp_path, 5, signal.SIGINT)
    assert process.exitcode not in (0, None)
    checkpoints = sorted((tmp_path / "runs" / "killed" / "checkpoints").iterdir())
    assert checkpoints[-1].name == f"step-{steps_logged(tmp_path)[-1]:06d}"
    assert not [path for path in checkpoints if path.name.startswith(".")]
    found = finish(tiny_wan_folder, tmp_path)
    assert all(torch.equal(found[name], undisturbed[name]) for name in undisturbed)
    assert steps_logged(tmp_path) == list(range(1, STEPS + 1))
