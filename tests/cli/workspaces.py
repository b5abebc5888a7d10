"""Small workspaces of the shipped model, made through the command line."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from cli.process import succeed

TRAIN = ("a red square moves right", "a red square moves up", "a red square moves down")
HELD_OUT = ("a red square moves left", "a red square grows")
SETTINGS = """
generate: {candidates: 3, num_inference_steps: 2, num_frames: 5}
align: {batch_size: 2, lora: {rank: 4, alpha: 8}, trainer: {steps: 2, learning_rate: 1e-3}}
evaluate: {seeds: 2, resamples: 50}
"""
WORKSPACE = "ws"


def make(folder: Path, *, settings: str = SETTINGS) -> Path:
    """A workspace `ws` in the folder with prompts and settings and nothing else."""
    (folder / "train.txt").write_text("\n".join(TRAIN))
    (folder / "held_out.txt").write_text("\n".join(HELD_OUT))
    succeed("init", WORKSPACE, "--prompts", "train.txt", "--held-out", "held_out.txt", folder=folder)
    (folder / WORKSPACE / "reelign.yaml").write_text(settings)
    return folder / WORKSPACE


@functools.cache
def _finished() -> tuple[Path, dict[str, str]]:
    folder = Path(tempfile.mkdtemp(prefix="reelign-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    workspace = make(folder)
    printed = {}
    for command in ("generate", "judge", "align", "evaluate", "report"):
        printed[command] = succeed(command, "-w", workspace, folder=folder)
    return workspace, printed


def finished() -> Path:
    """The folder of a workspace that went through every stage once; to be read, not changed."""
    return _finished()[0]


def printed() -> dict[str, str]:
    """What its commands printed."""
    return _finished()[1]


def copy(folder: Path) -> Path:
    """A copy of the finished workspace, to be changed."""
    shutil.copytree(finished(), folder / WORKSPACE)
    return folder / WORKSPACE
