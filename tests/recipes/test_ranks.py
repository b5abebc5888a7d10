"""Two real ranks are one process with the double batch, and they fail, stop and go on together."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from recipes.rank_run import assert_sharded, climb, run
from reelign.errors import ReelignError
from training.processes import PROCESSES, end, errors, run_in_ranks, start_in_ranks


def alone(model: Path, folder: Path, kind: str, batch_size: int, work: Any = run, **changes: Any) -> None:
    process = PROCESSES.Process(target=work, args=(str(model), folder, kind, batch_size, changes))
    process.start()
    process.join()
    assert process.exitcode == 0


def both(model: Path, folder: Path, kind: str, batch_size: int, **changes: Any) -> None:
    run_in_ranks(run, str(model), folder, kind, batch_size, changes, folder=folder)


def left(folder: Path) -> dict[str, Tensor]:
    """Weights and average of the newest checkpoint, and the adapter."""
    own = folder / "runs" / "ranks"
    files = [*max((own / "checkpoints").glob("step-*")).glob("*.safetensors"), *(own / "adapter").glob("*.safetensors")]
    assert len(files) == 3
    return {f"{file.name}:{name}": tensor for file in files for name, tensor in load_file(file).items()}


def forget(folder: Path, *, after: int) -> None:
    """Leave the run as a kill behind that step would."""
    shutil.rmtree(folder / "runs" / "ranks" / "adapter")
    shutil.rmtree(folder / "cache" / "reference", ignore_errors=True)
    for path in (folder / "runs" / "ranks" / "checkpoints").glob("step-*"):
        if int(path.name.removeprefix("step-")) > after:
            shutil.rmtree(path)


def logged(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "runs" / "ranks" / "metrics.jsonl").read_text().splitlines()]


def assert_same_runs(one: Path, other: Path, *, apart: tuple[str, ...] = ("seconds",)) -> None:
    first, second = left(one), left(other)
    assert first.keys() == second.keys()
    assert max(float(tensor.abs().max()) for tensor in first.values()) > 1e-2
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=1e-3, atol=2e-5)
    for row, again in zip(logged(one), logged(other), strict=True):
        assert row.keys() == again.keys()
        left_aside = dict.fromkeys(apart, 0)
        assert {**again, **left_aside} == pytest.approx({**row, **left_aside}, rel=1e-3, abs=1e-5)


def test_two_ranks_climb_a_reward_as_one_process_and_count_what_it_could_not_score_together(
    tiny_wan_folder: Path, tmp_path: Path
) -> None:
    alone(tiny_wan_folder, tmp_path / "alone", "", 4, climb)
    run_in_ranks(climb, str(tiny_wan_folder), tmp_path / "both", "", 2, {}, folder=tmp_path / "both")
    assert_same_runs(tmp_path / "alone", tmp_path / "both")
    failed = [row["reward/failed"] for row in logged(tmp_path / "both")]
    assert failed == [1, 2, 3, 4]  # the disc comes once an epoch
    again = tmp_path / "both"
    forget(again, after=2)
    run_in_ranks(climb, str(tiny_wan_folder), again, "", 2, {}, folder=again)
    assert_same_runs(tmp_path / "alone", again)


@pytest.mark.parametrize("kind", ["dpo", "slotted dpo", "kto", "sft"])
def test_two_ranks_are_one_process_with_the_double_batch(tiny_wan_folder: Path, tmp_path: Path, kind: str) -> None:
    alone(tiny_wan_folder, tmp_path / "alone", kind, 4)
    both(tiny_wan_folder, tmp_path / "both", kind, 2)
    assert_same_runs(tmp_path / "alone", tmp_path / "both")
    assert [path.name for path in (tmp_path / "both" / "runs").iterdir()] == ["ranks"]
    assert "align ranks" in errors(tmp_path / "both")[0]  # the bar
    assert errors(tmp_path / "both")[1].strip() == ""


@pytest.mark.parametrize(("kind", "each"), [("slotted dpo", 2), ("kto mismatched", 4)])
def test_sharded_ranks_are_one_process_with_the_double_batch(
    tiny_wan_folder: Path, tmp_path: Path, kind: str, each: int
) -> None:
    run_in_ranks(assert_sharded, str(tiny_wan_folder), folder=tmp_path)
    alone(tiny_wan_folder, tmp_path / "alone", kind, 2 * each)
    both(tiny_wan_folder, tmp_path / "both", kind, each, sharded=True)
    assert_same_runs(tmp_path / "alone", tmp_path / "both")
    forget(tmp_path / "both", after=2)
    both(tiny_wan_folder, tmp_path / "both", kind, each, sharded=True)
    # Kept reference errors were forgotten too, so that the reference is asked more often.
    assert_same_runs(tmp_path / "alone", tmp_path / "both", apart=("seconds", "forwards_per_pair"))


def test_a_gradient_that_is_not_finite_on_one_rank_is_passed_over_by_all(tiny_wan_folder: Path, tmp_path: Path) -> None:
    alone(tiny_wan_folder, tmp_path / "alone", "sft with nan", 4, stop_after_skips=9, steps=6)
    both(tiny_wan_folder, tmp_path / "both", "sft with nan", 2, stop_after_skips=9, steps=6)
    assert 0 < logged(tmp_path / "both")[-1]["skipped"] < 6
    assert_same_runs(tmp_path / "alone", tmp_path / "both")


def test_ranks_with_different_weights_stop_and_say_which(tiny_wan_folder: Path, tmp_path: Path) -> None:
    codes = end(start_in_ranks(run, str(tiny_wan_folder), tmp_path, "sft with another model", 2, {}, folder=tmp_path))
    assert codes == [1, 1]
    told, silent = errors(tmp_path)
    assert "The weights of rank 1 are not those of rank 0 as loaded; the first that differs is transformer." in told
    assert "weights" not in silent


def test_where_one_rank_fails_all_end_and_it_says_why(tiny_wan_folder: Path, tmp_path: Path) -> None:
    codes = end(start_in_ranks(run, str(tiny_wan_folder), tmp_path, "sft with a failure", 2, {}, folder=tmp_path))
    assert codes == [1, 1]
    other, failed = errors(tmp_path)
    assert "RuntimeError: this rank alone" in failed
    assert "Rank 1 failed; it says why itself.\nStart the same command again" in other


def running(model: Path, folder: Path, step: int) -> list[BaseProcess]:
    """A run of two ranks that has logged the step."""
    ranks = start_in_ranks(run, str(model), folder, "sft", 2, {"steps": 30, "checkpoint_every": 3}, folder=folder)
    until = time.monotonic() + 60
    while not (folder / "runs/ranks/metrics.jsonl").exists() or len(logged(folder)) < step:
        assert all(rank.is_alive() for rank in ranks), errors(folder)
        assert time.monotonic() < until
        time.sleep(0.002)
    return ranks


def test_a_run_goes_on_bit_for_bit_after_ctrl_c_and_after_a_rank_was_killed(
    tiny_wan_folder: Path, tmp_path: Path
) -> None:
    both(tiny_wan_folder, tmp_path / "whole", "sft", 2, steps=30, checkpoint_every=3)
    cut = tmp_path / "cut"
    ranks = running(tiny_wan_folder, cut, 7)
    assert ranks[1].pid is not None
    os.kill(ranks[1].pid, signal.SIGKILL)
    assert end(ranks) == [1, -signal.SIGKILL]
    assert "Another rank ended without a word.\nStart the same command again" in errors(cut)[0]
    ranks = running(tiny_wan_folder, cut, 12)
    assert ranks[1].pid is not None
    os.kill(ranks[1].pid, signal.SIGINT)  # one alone: what one rank was told, all do
    assert end(ranks) == [1, 1]
    assert "KeyboardInterrupt" in errors(cut)[0]
    newest = max((cut / "runs/ranks/checkpoints").glob("step-*")).name
    assert newest == f"step-{len(logged(cut)):06d}"
    both(tiny_wan_folder, cut, "sft", 2, steps=30, checkpoint_every=3)
    first, second = left(tmp_path / "whole"), left(cut)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [row["step"] for row in logged(cut)] == list(range(1, 31))


def test_another_number_of_ranks_is_refused(tiny_wan_folder: Path, tmp_path: Path) -> None:
    both(tiny_wan_folder, tmp_path, "sft", 2)
    forget(tmp_path, after=2)
    with pytest.raises(ReelignError, match=r"This run began with 2 ranks, and one process would make other batches"):
        run(str(tiny_wan_folder), tmp_path, "sft", 2, {})
