"""A latent reward as the judge of an online run: scores by hand, nothing decoded, and its blocks stay what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from recipes.reward_gradient.test_latent import saved
from reelign.errors import ReelignError
from reelign.generators import load_generator
from reelign.recipes.latent_reward.feedback import check_blocks
from reelign.recipes.online.align import align_online, dry_run_online
from reelign.recipes.online.selection import Selection
from reelign.recipes.online.settings import OnlineSettings, RolloutSettings
from reelign.recipes.sampling import GenerateSettings
from reelign.records import Workspace
from reelign.training import LoRA, TrainerSettings
from reelign.training.reference_policy import Fixed


def settings_of(folder: Path, lora: LoRA | None) -> OnlineSettings:
    return OnlineSettings(
        judge=f"latent:{folder}",
        selection=Selection(weights={"VQ": 1.0, "MQ": -0.5}),
        rollout=RolloutSettings(candidates=2),
        prompts=1,
        lora=lora,
        reference=Fixed(),
        trackers=(),
        trainer=TrainerSettings(steps=2, learning_rate=0.01, checkpoint_every=2),
    )


def test_candidates_are_judged_as_latents(
    empty: Workspace, tiny_wan_folder: Path, small: GenerateSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(tmp_path / "reward", load_generator(str(tiny_wan_folder)))
    generator = load_generator(str(tiny_wan_folder), encoders=False)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("something was decoded")

    monkeypatch.setattr(generator, "decode", never)
    done = align_online(empty, generator, settings_of(folder, LoRA(rank=2)), sampling=small)
    lines = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["online/candidates"] for line in lines] == [2, 4]
    assert all(torch.tensor([line["reward/VQ"], line["reward/MQ"]]).isfinite().all() for line in lines)
    assert done.adapter.is_dir()


def test_a_reward_on_blocks_that_would_train_is_refused(
    empty: Workspace, tiny_wan_folder: Path, small: GenerateSettings, tmp_path: Path
) -> None:
    generator = load_generator(str(tiny_wan_folder))
    shared, own = saved(tmp_path / "head", generator), saved(tmp_path / "full", generator, train="full")
    for call in (align_online, dry_run_online):
        with pytest.raises(ReelignError, match="this run trains the model's own weights"):
            call(empty, generator, settings_of(shared, None), sampling=small)
    assert not any((empty.root / "runs").iterdir())
    check_blocks(own, settings_of(own, None))
    check_blocks(shared, settings_of(shared, LoRA(rank=2)))
