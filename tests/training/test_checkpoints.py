"""Checkpoints are whole or not there, also where the disk is full."""

from __future__ import annotations

import multiprocessing
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from reelign.errors import ReelignError
from reelign.training.checkpoints import Checkpoint, checkpoint_folders, load_checkpoint, save_checkpoint


def checkpoint(step: int, size: int = 4) -> Checkpoint:
    weight = torch.full((size,), float(step))
    return Checkpoint(step, {"w": weight}, [{"state": {0: {"m": weight + 1}}}], {"step": step}, {"w": weight + 2})


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(3), keep=2)
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert (found.step, found.stream) == (3, {"step": 3})
    assert found.weights["w"].tolist() == [3.0] * 4
    assert found.optimisers[0]["state"][0]["m"].tolist() == [4.0] * 4
    assert found.ema is not None
    assert found.ema["w"].tolist() == [5.0] * 4


def test_no_folder_is_no_checkpoint(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "nowhere") is None
    assert load_checkpoint(tmp_path) is None


def test_a_partial_checkpoint_is_not_seen_and_does_not_stand_in_the_way(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1), keep=2)
    partial = tmp_path / ".step-000002.partial"
    partial.mkdir()
    (partial / "weights.safetensors").write_bytes(b"half")
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1
    save_checkpoint(tmp_path, checkpoint(2), keep=2)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-000001", "step-000002"]


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, checkpoint(1), keep=2)
    (folder / "optimiser.pt").write_bytes(b"")
    with pytest.raises(ReelignError, match="step-000001 cannot be read") as caught:
        load_checkpoint(tmp_path)
    assert "Remove that folder" in caught.value.mend


def test_steps_are_ordered_by_number(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        save_checkpoint(tmp_path, checkpoint(step), keep=2)
    assert [folder.name for folder in checkpoint_folders(tmp_path)] == ["step-000010", "step-000100"]


def save_under_a_limit(folder: Path, size: int, limit: int) -> None:
    """In a process of its own: no file may grow past `limit` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        save_checkpoint(folder, checkpoint(2, size), keep=1)
    except ReelignError as error:
        raise SystemExit(0 if "disk is full" in error.what and "Free some space" in error.mend else 2) from None
    raise SystemExit(1)


# Small enough to fail in the weights, and large enough to fail only in the optimiser's file or the last one.
@pytest.mark.parametrize(("size", "limit"), [(10_000, 4_096), (1_000, 4_500), (4, 50)])
def test_a_full_disk_is_said_and_keeps_the_checkpoint_before(tmp_path: Path, size: int, limit: int) -> None:
    save_checkpoint(tmp_path, checkpoint(1), keep=1)
    child = multiprocessing.get_context("fork").Process(target=save_under_a_limit, args=(tmp_path, size, limit))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["step-000001"]
    assert load_checkpoint(tmp_path) is not None


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A RAM disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("size", [6_000, 3_500])
def test_a_disk_that_is_really_full_is_said_and_keeps_the_checkpoint_before(small_disk: Path, size: int) -> None:
    save_checkpoint(small_disk, checkpoint(1), keep=1)
    with pytest.raises(ReelignError, match="disk is full"):
        save_checkpoint(small_disk, checkpoint(2, size), keep=1)
    assert [path.name for path in small_disk.iterdir()] == ["step-000001"]
