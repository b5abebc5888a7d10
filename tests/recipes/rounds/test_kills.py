"""Rounds killed between stages and within them end with the very adapters of rounds that were not."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from recipes.dual_worlds import REWARD, dual_settings
from recipes.round_run import make, run
from rewards import tiny_qwen

# One server imports the libraries once and forks a fresh process for each run.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["reelign.recipes.offline.align", "diffusers.pipelines.wan.pipeline_wan"])


def stages(folder: Path, number: int) -> dict[str, dict[str, Any]]:
    path = folder / f"runs/iterate/round-{number}.json"
    found: dict[str, dict[str, Any]] = json.loads(path.read_text())["stages"] if path.exists() else {}
    return found


def steps(folder: Path, number: int | str) -> int:
    path = folder / f"runs/iterate-{number}/metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_when(folder: Path, there: Callable[[], bool]) -> None:
    process = PROCESSES.Process(target=run, args=(folder,))
    process.start()
    until = time.monotonic() + 120
    while not there():
        assert process.is_alive(), "it ended before"
        assert time.monotonic() < until
        time.sleep(0.002)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def adapters(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted(folder.glob("runs/*/adapter/*.safetensors"))
    return {f"{file.parent.parent.name}:{name}": each for file in files for name, each in load_file(file).items()}


def outputs(folder: Path) -> list[object]:
    """Of all stages; the keys of judgements are drawn when they are made, and so is the hash of a file of them."""
    found: list[object] = []
    for number in range(3):
        own = {name: dict(each["outputs"]) for name, each in stages(folder, number).items()}
        own.get("judgements", {}).pop("sha256", None)
        found.append(own)
    return found


def at_video(folder: Path) -> bool:
    return any((folder / "videos").glob("*.mp4"))


def at_first_training(folder: Path) -> bool:
    return steps(folder, 1) >= 2


def at_refresh(folder: Path) -> bool:
    return steps(folder, "1-judge") >= 2


def at_second_candidates(folder: Path) -> bool:
    return "generate" in stages(folder, 2)


def at_second_training(folder: Path) -> bool:
    return steps(folder, 2) >= 3


@pytest.mark.parametrize(
    "places",
    [
        pytest.param([at_second_training], id="once"),
        pytest.param(
            [at_video, at_first_training, at_second_candidates, at_second_training],
            id="at-four-points",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_killed_rounds_end_as_if_never_killed(
    tiny_wan_folder: Path, tmp_path: Path, places: list[Callable[[Path], bool]]
) -> None:
    same_after_kills(tmp_path, str(tiny_wan_folder), places)


@pytest.mark.slow
def test_a_judge_that_is_killed_while_it_is_trained_again_ends_as_if_never_killed(
    tiny_wan_folder: Path, tmp_path: Path
) -> None:
    backbone = tiny_qwen.save(tiny_qwen.qwen2_vl(), tmp_path / "qwen")
    trainer = {"steps": 4, "learning_rate": 1e-3, "warmup_steps": 0, "checkpoint_every": 1}
    reward = {**REWARD, "backbone": str(backbone), "trainer": trainer}
    rounds = dual_settings("reward:recipes.online_worlds:Glance", reward=reward)
    same_after_kills(tmp_path, str(tiny_wan_folder), [at_refresh], rounds)


def same_after_kills(
    folder: Path, model: str, places: list[Callable[[Path], bool]], rounds: dict[str, Any] | None = None
) -> None:
    """Rounds that are killed at each of the places end with the outputs and adapters of rounds that were not."""
    quiet = make(folder / "quiet", model, rounds).root
    run(quiet)
    folder = make(folder / "killed", model, rounds).root
    for place in places:
        kill_when(folder, partial(place, folder))
    once = stages(folder, 1)
    run(folder)
    assert {name: stages(folder, 1)[name] for name in once} == once  # with the times at which they were done
    assert outputs(folder) == outputs(quiet)
    found, wanted = adapters(folder), adapters(quiet)
    assert found.keys() == wanted.keys()
    assert len({name.split(":")[0] for name in found}) >= 2
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
