"""A small comparison, metrics file and report, with everything the page can show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.evaluation import Comparison, Interval, Measure, Report, ReportSample, compare


def moving_square(shift: int = 0, frames: int = 17) -> Tensor:
    """A square that moves one pixel a frame, (frames, 3, 32, 32)."""
    video = torch.full((frames, 3, 32, 32), 0.9)
    for frame in range(frames):
        video[frame, 1:, 12 + shift : 20 + shift, 2 + frame : 10 + frame] = 0.1
    return video


@pytest.fixture
def comparison() -> Comparison:
    """VQ and MQ clearly up, TA clearly down, one failed video on the aligned side."""
    generator = generator_from("comparison")
    base = {name: torch.rand(24, 3, generator=generator) for name in ("VQ", "MQ", "TA")}
    change = {"VQ": 0.2, "MQ": 0.1, "TA": -0.05}
    aligned = {k: v + change[k] + 0.02 * torch.randn(24, 3, generator=generator) for k, v in base.items()}
    aligned["VQ"][3, 1] = float("nan")
    return compare(base, aligned, tie=0.02, generator=generator)


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    path = tmp_path / "metrics.jsonl"
    keys = ("loss", "implicit_accuracy", "chosen_error_gap", "rejected_error_gap", "margin", "grad_norm")
    lines = [json.dumps({"step": step, **dict.fromkeys(keys, 0.5 + step / 100)}) for step in range(1, 41)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def report(comparison: Comparison, metrics: Path) -> Report:
    samples = [
        ReportSample(
            prompt="a red square <script>alert('no')</script> & more",
            seed=seed,
            base=moving_square(2 * seed),
            aligned=moving_square(),
            base_scores={"VQ": 0.5, "MQ": 0.25},
            aligned_scores={"VQ": 0.75, "MQ": float("nan")},
        )
        for seed in range(3)
    ]
    return Report(
        title="Flow-DPO on squares",
        model="some/model",
        comparison=comparison,
        samples=samples,
        fps=8,
        curves=metrics,
        config={"objective": {"beta": 500.0}, "folder": Path("runs/one")},
        versions={"reelign": "0.1.0"},
        seeds={"evaluate": 7},
        stages={"align": 121.4, "evaluate": 3.25},
        peak_memory_bytes=3 * 2**30,
        measures=[Measure(name="diversity", base=0.41, aligned=0.38)],
        controls=[("swapped", Interval(-0.06, -0.08, -0.04))],
    )
