"""Ctrl-C and a full disk in the middle of a stage: nothing already made is lost, and the same command goes on."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import torch
from safetensors.torch import load_file

from cli.process import reelign, refusal, start, succeed
from cli.workspaces import copy, make
from reelign.records import Workspace
from reelign.training.checkpoints import checkpoint_folders
from reelign.video import read_video


def recorded(workspace: Path) -> int:
    return len(Workspace.open(workspace).videos())


def contents(folder: Path) -> dict[Path, str]:
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_all_there_is_whole(workspace: Path) -> None:
    opened = Workspace.open(workspace)
    for video in opened.videos():
        assert len(read_video(opened.video_path(video)).frames) == video.num_frames
        latents = opened.latents_path(video)
        assert latents is not None
        assert latents.is_file()


def test_ctrl_c_in_generate_keeps_what_was_made_and_the_command_goes_on(tmp_path: Path) -> None:
    workspace = make(tmp_path)
    words = ["generate", "-w", workspace, "candidates=8", "batch_size=1"]
    stopped = start(*words, folder=tmp_path).interrupt(lambda: recorded(workspace) >= 2)
    assert stopped.code == 130
    assert "the same command again goes on where it stopped" in refusal(stopped)
    there = recorded(workspace)
    assert 2 <= there < 24
    assert_all_there_is_whole(workspace)
    before = contents(workspace / "videos")
    assert f"{24 - there} videos made, {there} were there" in succeed(*words, folder=tmp_path)
    after = contents(workspace / "videos")
    opened = Workspace.open(workspace)
    for video in opened.videos()[:there]:
        assert before[opened.video_path(video)] == after[opened.video_path(video)]


def test_ctrl_c_in_judge_keeps_what_was_judged_and_the_command_goes_on(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    words = ["judge", "-w", workspace, "seed=1", "judge=slow_judge:judge"]
    (tmp_path / "slow_judge.py").write_text(
        "import time\n"
        "class Slow:\n"
        "    name, version, dimensions = 'slow', '1', ('overall',)\n"
        "    def compare(self, videos_a, videos_b, prompts, *, generator):\n"
        "        time.sleep(0.5)\n"
        "        return [{'overall': 'a'} for _ in prompts]\n"
        "judge = Slow()\n"
    )

    def judged() -> int:
        return sum(row.judge == "slow" for row in Workspace.open(workspace).judgements())

    stopped = start(*words, folder=tmp_path, PYTHONPATH=".").interrupt(lambda: judged() > 0)
    assert stopped.code == 130
    there = judged()
    assert 0 < there < 9
    assert f"{9 - there} judgements made, {there} were there" in succeed(*words, folder=tmp_path, PYTHONPATH=".")


def test_ctrl_c_in_align_leaves_a_checkpoint_and_the_command_ends_as_if_undisturbed(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    runs = workspace / "runs"
    words = ["align", "-w", workspace, "trainer.steps=12"]

    def steps(run: str) -> list[int]:
        path = runs / run / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line)["step"] for line in lines]

    stopped = start(*words, "run=stopped", folder=tmp_path).interrupt(lambda: len(steps("stopped")) >= 2)
    assert stopped.code == 130
    assert "the same command again goes on where it stopped" in refusal(stopped)
    [checkpoint] = checkpoint_folders(runs / "stopped" / "checkpoints")
    assert checkpoint.name == f"step-{steps('stopped')[-1]:06d}"
    assert steps("stopped")[-1] < 12
    assert not (runs / "stopped" / "adapter").exists()
    succeed(*words, "run=stopped", folder=tmp_path)
    succeed(*words, "run=undisturbed", folder=tmp_path)
    assert steps("stopped") == list(range(1, 13))
    adapters = [runs / run / "adapter" / "pytorch_lora_weights.safetensors" for run in ("stopped", "undisturbed")]
    stopped_weights, undisturbed = (load_file(adapter) for adapter in adapters)
    assert stopped_weights.keys() == undisturbed.keys()
    for name, weight in undisturbed.items():
        assert torch.equal(stopped_weights[name], weight), name


def test_a_full_disk_during_a_checkpoint_keeps_the_last_whole_one_and_the_command_goes_on(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    checkpoints = workspace / "runs" / "full" / "checkpoints"
    words = ["align", "-w", workspace, "run=full", "trainer.steps=4", "trainer.checkpoint_every=2"]
    whole = contents(workspace / "runs" / "align" / "checkpoints")
    weights = max(path.stat().st_size for path in whole)
    # The file of metrics and the weights fit, the optimiser's does not.
    full = reelign(*words, folder=tmp_path, largest_file=weights - 4096)
    message = refusal(full)
    assert "The disk is full: checkpoint step-000002 could not be written" in message
    assert "run the same command again" in message
    assert [*checkpoints.rglob("*")] == []
    assert contents(workspace / "runs" / "align" / "checkpoints") == whole
    succeed(*words, folder=tmp_path)
    assert [path.name for path in checkpoint_folders(checkpoints)] == ["step-000002", "step-000004"]


def test_a_full_disk_during_generate_keeps_earlier_videos_and_the_command_goes_on(tmp_path: Path) -> None:
    workspace = make(tmp_path, settings="generate: {num_inference_steps: 1, num_frames: 17}")
    succeed("generate", "-w", workspace, "candidates=1", folder=tmp_path)
    before = contents(workspace / "videos") | contents(workspace / "latents")
    words = ["generate", "-w", workspace, "candidates=3"]
    # At the first limit SQLite's own files stop it, at the second the shard with the latents.
    for limit, message in ((1000, "that the disk has room"), (50_000, "The disk is full")):
        assert message in refusal(reelign(*words, folder=tmp_path, largest_file=limit))
        assert recorded(workspace) == 3
        now = contents(workspace / "videos") | contents(workspace / "latents")
        assert before.items() <= now.items()
    assert_all_there_is_whole(workspace)
    assert "6 videos made, 3 were there" in succeed(*words, folder=tmp_path)


def test_a_full_disk_while_the_database_grows_says_so_and_tears_nothing(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    size = (workspace / "reelign.db").stat().st_size
    words = ["judge", "-w", workspace, "judge=many:judges"]
    (tmp_path / "many.py").write_text(
        "from reelign.records import load_judges\n"
        "judges = load_judges('spriteworld-people') * 1\n"
        "for number, each in enumerate(judges):\n"
        "    object.__setattr__(each, 'name', f'{each.name}-again-{number}')\n"
    )
    judged = len(Workspace.open(workspace).judgements())
    full = reelign(*words, folder=tmp_path, largest_file=4096, PYTHONPATH=".")
    assert "disk" in refusal(full).lower()
    assert len(Workspace.open(workspace).judgements()) == judged
    assert (workspace / "reelign.db").stat().st_size >= size
    assert re.search(r"[1-9]\d* judgements made", succeed(*words, folder=tmp_path, PYTHONPATH="."))


def test_a_full_disk_keeps_the_earlier_report(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    before = contents(workspace / "runs" / "align")
    full = reelign("report", "-w", workspace, folder=tmp_path, largest_file=40_000)
    assert "Free some space" in refusal(full)
    assert before.items() <= contents(workspace / "runs" / "align").items()
    succeed("report", "-w", workspace, folder=tmp_path)
