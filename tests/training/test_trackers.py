"""Trackers: what they were told is found in their own files."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from reelign.errors import ReelignError
from reelign.generators import Generator
from reelign.training import LoRA, Policy
from reelign.training import trackers as trackers_module
from reelign.training.trackers import Trackers, check_trackers
from reelign.video import write_video

Told = Callable[[Trackers], None]


@pytest.fixture
def told(tiny_wan: Generator, tmp_path: Path) -> Told:
    """Three steps, one of them with a number that is none, and a video."""
    video = tmp_path / "1.mp4"
    write_video(video, torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0)), 8.0)
    policy = Policy(tiny_wan, LoRA(rank=2, alpha=2))

    def tell(trackers: Trackers) -> None:
        for step in (1, 2, 3):
            metrics = {"loss": 1.0 / step, "grad_norm": math.nan if step == 2 else 0.5}
            assert trackers.after_step(step, policy, metrics) == {}
        trackers.video(3, "samples/1", video, "step 3: a red square")

    return tell


def test_tensorboard_has_the_numbers_and_the_video_moves(told: Told, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Trackers(None, tmp_path / "ws" / "runs" / "a", {"seed": 1}) as trackers:
        told(trackers)
    events = EventAccumulator(str(tmp_path / "ws" / "runs" / "a" / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (1, 1.0),
        (2, 0.5),
        (3, pytest.approx(1 / 3)),
    ]
    assert [event.step for event in events.Scalars("grad_norm")] == [1, 3]
    (picture,) = events.Images("samples/1")
    assert (picture.step, picture.width, picture.encoded_image_string[:3]) == (3, 16, b"GIF")


def test_wandb_offline_has_them_too_and_a_resumed_run_keeps_its_name(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = tmp_path / "ws" / "runs" / "a"
    folder.mkdir(parents=True)
    with Trackers(["wandb"], folder, {"seed": 1}) as trackers:
        told(trackers)
    name = (folder / "wandb-id").read_text()
    (offline,) = folder.glob("wandb/offline-run-*")
    assert offline.name.endswith(name)
    assert list(offline.glob("files/media/videos/samples/*.mp4"))
    (kept,) = offline.glob("*.wandb")
    words = [b"grad_norm", b"samples/1", b"a red square"]
    # wandb's own process may write the last of it after `finish` has returned.
    until = time.monotonic() + 20
    while missing := [word for word in words if word not in kept.read_bytes()]:
        assert time.monotonic() < until, missing
        time.sleep(0.1)
    with Trackers(["wandb"], folder, {"seed": 1}) as again:
        assert again.trackers[0].run.id == name


def test_trackio_keeps_them_locally(told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    from trackio.sqlite_storage import SQLiteStorage

    folder = tmp_path / "ws" / "runs" / "a"
    with Trackers(["trackio"], folder, {"seed": 1}) as trackers:
        told(trackers)
    (run,) = SQLiteStorage.get_runs("reelign")
    assert run.startswith("ws-a-")
    logs = SQLiteStorage.get_logs("reelign", run)
    assert [(row["step"], row["loss"]) for row in logs if "loss" in row][:2] == [(1, 1.0), (2, 0.5)]
    assert any("samples/1" in row for row in logs)


def test_none_may_be_asked_for(told: Told, tmp_path: Path) -> None:
    with Trackers((), tmp_path / "ws" / "runs" / "a", {}) as trackers:
        told(trackers)
    assert not (tmp_path / "ws").exists()


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(trackers_module.TRACKERS, "wandb", ("no_such_package", "wandb", trackers_module.WandB))
    with pytest.raises(ReelignError, match="no_such_package cannot be imported") as caught:
        check_trackers(["tensorboard", "wandb"])
    assert "pip install 'reelign[wandb]'" in caught.value.mend
