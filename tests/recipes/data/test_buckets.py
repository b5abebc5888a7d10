"""Sizes and lengths in one run: each batch holds one, all are visited, and a stopped run goes on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from recipes.long_run import settings
from reelign.errors import ReelignError
from reelign.generators import Conditioning, load_generator
from reelign.objectives import DPO, KTO, SFT
from reelign.recipes.data.buckets import Bucketed, BucketedStream
from reelign.recipes.data.preferences import Clip, PreferenceData
from reelign.recipes.offline.align import AlignSettings, align
from reelign.records import Workspace
from reelign.training import LoRA, ShuffledStream, VideoBatch

SHAPES = [(16, 3, 2, 2), (16, 3, 2, 2), (16, 5, 2, 2), (16, 3, 2, 4), (16, 3, 2, 2)]


def preferences(folder: Path) -> PreferenceData:
    """Pairs of two sizes and two lengths."""
    chance = torch.Generator().manual_seed(0)
    latents = {f"{i}{side}": torch.randn(shape, generator=chance) for i, shape in enumerate(SHAPES) for side in "cr"}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(latents, folder / "random.safetensors")
    clips = {name: Clip(folder / f"{name}.mp4", folder / "random.safetensors", name) for name in latents}
    chosen, rejected = ([clips[f"{i}{side}"] for i in range(len(SHAPES))] for side in "cr")
    return PreferenceData(["a red square", "a disc"], chosen, rejected, [0, 1, 0, 1, 0], "sizes")


def run(model: Path, folder: Path, how: AlignSettings) -> list[dict[str, float]]:
    workspace = Workspace.create(folder / "ws", model=str(model))
    align(workspace, load_generator(str(model)), how, data=preferences(folder))
    return [json.loads(line) for line in (workspace.root / "runs/killed/metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "ws/runs/killed/adapter/pytorch_lora_weights.safetensors")


def test_an_epoch_visits_every_sample_and_a_batch_holds_one_size() -> None:
    def streams() -> BucketedStream:
        made = [
            ShuffledStream(
                VideoBatch,
                torch.arange(count).float().reshape(count, 1, 1, 1, 1).expand(count, 1, 1, 1, size),
                Conditioning({"e": torch.zeros(1, 2)}),
                torch.zeros(count, dtype=torch.long),
                batch_size=2,
                seed=size,
            )
            for count, size in ((4, 3), (2, 5))
        ]
        return BucketedStream(made, [4, 2], batch_size=2, seed=0)

    stream = streams()
    epoch = [stream.next_batch() for _ in range(3)]
    seen = {(each.bucket, float(row)) for each in epoch for row in each.batch.latents[:, 0, 0, 0, 0]}
    assert seen == {(0, 0.0), (0, 1.0), (0, 2.0), (0, 3.0), (1, 0.0), (1, 1.0)}
    assert {each.batch.latents.shape[-1] for each in epoch if each.bucket == 1} == {5}
    orders = {tuple(stream.next_batch().bucket for _ in range(3)) for _ in range(6)}
    assert len(orders) > 1
    again = streams()
    again.load_state_dict(stream.state_dict())
    first, second = stream.next_batch(), again.next_batch()
    assert isinstance(first, Bucketed)
    assert first.bucket == second.bucket
    assert torch.equal(first.batch.latents, second.batch.latents)


@pytest.mark.parametrize(
    "how",
    [
        {"objective": DPO(beta=10.0, target_factor=0.4)},
        {"objective": DPO(beta=10.0), "reference_slots": 2},
        {"objective": KTO(beta=20.0)},
        {"objective": SFT()},
    ],
)
def test_sizes_and_lengths_train_in_one_run_that_goes_on(
    tiny_wan_folder: Path, tmp_path: Path, how: dict[str, Any]
) -> None:
    wanted = replace(settings(6, 2), batch_size=2, lora=LoRA(rank=2), **how)
    rows = run(tiny_wan_folder, tmp_path / "whole", wanted)
    assert len(rows) == 6
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    own = tmp_path / "cut/ws/runs/killed"
    shutil.rmtree(own / "adapter")
    shutil.rmtree(own / "checkpoints/step-000006")
    run(tiny_wan_folder, tmp_path / "cut", wanted)
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_pair_of_two_sizes_is_refused_by_name(tiny_wan_folder: Path, tmp_path: Path) -> None:
    data = preferences(tmp_path)
    mixed = replace(data, rejected=[data.rejected[2], *data.rejected[1:]])
    workspace = Workspace.create(tmp_path / "ws", model=str(tiny_wan_folder))
    with pytest.raises(ReelignError, match=r"0c over 2r: the videos differ in size"):
        align(workspace, load_generator(str(tiny_wan_folder)), settings(2, 2), data=mixed)
