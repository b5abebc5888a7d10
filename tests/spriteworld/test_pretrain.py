"""Pretraining runs from nothing, goes on where it stopped, and ends with a pipeline that diffusers loads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline

from reelign.generators import load_generator
from reelign.spriteworld.pipeline_parts import save_pipeline
from reelign.spriteworld.pretrain import Pretraining, gates, main, pretrain
from reelign.training.checkpoints import load_checkpoint

TINY = Pretraining(videos=500, cycles=(3, 2), batch_size=2, warmup_steps=1, width=32, layers=1, compile=False)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = load_checkpoint(folder / "cycle-1" / "checkpoints")
    assert found is not None
    return found.weights


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain")
    generator = pretrain(folder, TINY)
    save_pipeline(generator.pipeline, folder / "pipeline")
    return folder


def test_the_second_cycle_starts_from_the_average_of_the_first_and_the_same_command_repeats_nothing(
    finished: Path,
) -> None:
    before = weights(finished)
    steps = (finished / "cycle-1" / "metrics.jsonl").read_text()
    pretrain(finished, TINY)
    assert (finished / "cycle-1" / "metrics.jsonl").read_text() == steps
    after = weights(finished)
    assert all(torch.equal(before[name], after[name]) for name in before)
    first = load_checkpoint(finished / "cycle-0" / "checkpoints")
    assert first is not None
    assert first.ema is not None
    moved = [float((first.ema[name] - before[name]).abs().max()) for name in before]
    assert 0 < max(moved) < 0.1


def test_what_is_written_is_a_pipeline_of_diffusers_and_its_gates_are_measured(finished: Path) -> None:
    pipeline = WanPipeline.from_pretrained(finished / "pipeline", dtype=torch.float32)
    assert not [path for path in (finished / "pipeline").rglob("*.json") if str(finished) in path.read_text()]
    assert pipeline.transformer.config.num_layers == 1
    measured = gates(load_generator(str(finished / "pipeline")), samples=4, seed=0)
    assert measured["samples"] == 4
    assert all(0 <= measured[name] <= 1 for name in ("colour", "shape", "motion", "VQ", "MQ", "TA"))


def test_every_cycle_has_its_mix(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="cycles must be 2 numbers"):
        Pretraining(cycles=(100,))
    monkeypatch.setattr("sys.argv", ["pretrain", "--cycles", "100"])
    with pytest.raises(SystemExit):
        main()
    assert "--cycles: expected 2 arguments" in capsys.readouterr().err
