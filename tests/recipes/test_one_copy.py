"""A training process holds one set of weights: no second model, no text encoder, no VAE."""

from __future__ import annotations

from pathlib import Path

from recipes.memory_run import measure
from training.processes import PROCESSES


def test_training_holds_the_denoiser_and_nothing_else(tiny_wan_folder: Path, tmp_path: Path) -> None:
    """Also in the process that has just encoded its prompts."""
    for name in ("encoding", "encoded"):
        run = PROCESSES.Process(target=measure, args=(str(tiny_wan_folder), tmp_path, name))
        run.start()
        run.join()
        assert run.exitcode == 0
