"""Offline alignment from preferences to an adapter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from reelign.errors import ReelignError
from reelign.generators import Generator, load_generator
from reelign.objectives import DPO, SFT
from reelign.recipes.offline import AlignSettings, align, claim_run
from reelign.recipes.preference_data import file_preferences, workspace_preferences
from reelign.records import FilePair, Workspace, write_pairs
from reelign.training import LoRA, TrainerSettings

SETTINGS = AlignSettings(
    run="first",
    objective=DPO(beta=20.0),
    batch_size=6,
    micro_batch_size=4,
    lora=LoRA(rank=4, alpha=8),
    trainer=TrainerSettings(steps=12, learning_rate=1e-2, checkpoint_every=6),
)


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def adapter(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "adapter" / "pytorch_lora_weights.safetensors")


def test_dpo_on_the_workspaces_votes_gives_an_adapter(judged: Workspace, tiny_wan: Generator) -> None:
    done = align(judged, tiny_wan, SETTINGS)
    assert (done.samples, done.started_from) == (6, 0)
    assert done.folder == judged.root / "runs" / "first"
    assert any(bool(tensor.any()) for name, tensor in adapter(done.folder).items() if "lora_B" in name)
    rows = metrics(done.folder)
    assert rows[-1]["loss"] < rows[0]["loss"]
    config = yaml.safe_load((done.folder / "config.yaml").read_text())
    assert config["align"]["objective"]["beta"] == 20.0
    assert config["model"] == tiny_wan.identity


def test_swapped_preferences_train_the_other_way(judged: Workspace, tiny_wan_folder: Path) -> None:
    """The same run with chosen and rejected exchanged starts from the same errors with the other sign."""
    model, trainer = str(tiny_wan_folder), replace(SETTINGS.trainer, steps=2)
    straight = align(judged, load_generator(model), replace(SETTINGS, trainer=trainer))
    swapped = align(judged, load_generator(model), replace(SETTINGS, trainer=trainer, swap=True, run="swapped"))
    first, other = metrics(straight.folder), metrics(swapped.folder)
    assert first[0]["grad_norm"] == pytest.approx(other[0]["grad_norm"], rel=1e-4)
    # One step of Adam from the same place along the opposite gradient.
    assert first[1]["chosen_error_gap"] - first[1]["rejected_error_gap"] < 0
    assert other[1]["chosen_error_gap"] - other[1]["rejected_error_gap"] < 0
    one, two = adapter(straight.folder), adapter(swapped.folder)
    moved = [name for name in one if "lora_B" in name]
    opposite = sum(float((one[name] * two[name]).sum()) for name in moved)
    assert opposite < 0


@pytest.mark.parametrize("on", ["chosen", "random"])
def test_sft_trains_on_single_videos(judged: Workspace, tiny_wan: Generator, on: str) -> None:
    settings = replace(SETTINGS, objective=SFT(on=on), run=on)  # type: ignore[arg-type]
    done = align(judged, tiny_wan, settings)
    assert done.samples == 6
    assert metrics(done.folder)[-1]["loss"] < metrics(done.folder)[0]["loss"]


def test_pairs_as_files_in_a_fresh_workspace_align_as_well(
    judged: Workspace, tiny_wan: Generator, tiny_wan_folder: Path, tmp_path: Path
) -> None:
    own = workspace_preferences(judged, "all")
    pairs = [
        FilePair(prompt=own.prompts[row], chosen=chosen.path, rejected=rejected.path)
        for row, chosen, rejected in zip(own.rows, own.chosen, own.rejected, strict=True)
    ]
    write_pairs(tmp_path / "pairs.parquet", pairs)
    fresh = Workspace.create(tmp_path / "fresh", model=str(tiny_wan_folder))
    done = align(fresh, tiny_wan, SETTINGS, data=file_preferences(tmp_path / "pairs.parquet"))
    assert done.samples == 6
    rows = metrics(done.folder)
    assert rows[0]["implicit_accuracy"] == 0.5
    assert len(list((fresh.root / "cache" / "latents").iterdir())) == 6
    assert adapter(done.folder)


def test_a_finished_run_called_again_is_left_as_it_is(judged: Workspace, tiny_wan_folder: Path) -> None:
    first = align(judged, load_generator(str(tiny_wan_folder)), SETTINGS)
    before = adapter(first.folder)
    again = align(judged, load_generator(str(tiny_wan_folder)), SETTINGS)
    assert again.started_from == 12
    after = adapter(first.folder)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_runs_name_is_taken_by_its_settings(judged: Workspace, tiny_wan: Generator, tmp_path: Path) -> None:
    claim_run(tmp_path / "r", {"align": {"beta": 1.0, "targets": ("a",)}})
    claim_run(tmp_path / "r", {"align": {"beta": 1.0, "targets": ("a",)}})
    with pytest.raises(ReelignError, match="other settings or other data") as caught:
        claim_run(tmp_path / "r", {"align": {"beta": 2.0, "targets": ("a",)}})
    assert "run=NAME" in caught.value.mend
    assert [path.name for path in (tmp_path / "r").iterdir()] == ["config.yaml"]


def test_settings_that_train_on_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="micro_batch_size must be at least 1"):
        AlignSettings(micro_batch_size=0)
