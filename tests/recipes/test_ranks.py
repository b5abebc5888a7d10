"""Two real ranks are one process with the double batch, and they fail, stop and go on together."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from recipes.rank_run import assert_sharded, run
from training.processes import PROCESSES, errors, run_in_ranks


def alone(model: Path, folder: Path, kind: str, batch_size: int, **changes: Any) -> None:
    process = PROCESSES.Process(target=run, args=(str(model), folder, kind, batch_size, changes))
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


def assert_same_runs(one: Path, other: Path) -> None:
    first, second = left(one), left(other)
    assert first.keys() == second.keys()
    assert max(float(tensor.abs().max()) for tensor in first.values()) > 1e-2
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=1e-3, atol=2e-5)
    for row, again in zip(logged(one), logged(other), strict=True):
        assert row.keys() == again.keys()
        assert {**again, "seconds": 0} == pytest.approx({**row, "seconds": 0}, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("kind", ["dpo", "slotted dpo", "kto", "sft"])
def test_two_ranks_are_one_process_with_the_double_batch(tiny_wan_folder: Path, tmp_path: Path, kind: str) -> None:
    alone(tiny_wan_folder, tmp_path / "alone", kind, 4)
    both(tiny_wan_folder, tmp_path / "both", kind, 2)
    assert_same_runs(tmp_path / "alone", tmp_path / "both")
    assert [path.name for path in (tmp_path / "both" / "runs").iterdir()] == ["ranks"]
    assert "align ranks" in errors(tmp_path / "both")[0]  # the bar
    assert errors(tmp_path / "both")[1].strip() == ""


@pytest.mark.parametrize("kind", ["slotted dpo", "kto mismatched"])
def test_sharded_ranks_are_one_process_with_the_double_batch(tiny_wan_folder: Path, tmp_path: Path, kind: str) -> None:
    run_in_ranks(assert_sharded, str(tiny_wan_folder), folder=tmp_path)
    alone(tiny_wan_folder, tmp_path / "alone", kind, 4)
    both(tiny_wan_folder, tmp_path / "both", kind, 2, sharded=True)
    assert_same_runs(tmp_path / "alone", tmp_path / "both")
    forget(tmp_path / "both", after=2)
    both(tiny_wan_folder, tmp_path / "both", kind, 2, sharded=True)
    assert_same_runs(tmp_path / "alone", tmp_path / "both")
