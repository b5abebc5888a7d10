"""An alignment as each rank runs it: random latents, every objective, one process or several."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor

from recipes.long_run import random_preferences, settings
from reelign.generators import Generator, load_generator
from reelign.objectives import DPO, KTO, SFT
from reelign.objectives.reward_gradient import RewardGradient
from reelign.recipes.offline.align import AlignSettings, align
from reelign.recipes.reward_gradient.align import align_by_reward_gradient
from reelign.recipes.reward_gradient.settings import RewardChoice, RewardGradientSettings
from reelign.recipes.sampling import GenerateSettings
from reelign.records import Workspace
from reelign.training import LoRA, MonitorSettings, Policy, TrainerSettings
from reelign.training.launch import start_ranks, together

OBJECTIVES: dict[str, Any] = {
    "dpo": DPO(beta=10.0, target_factor=0.4),
    "kto": KTO(beta=20.0),
    "kto mismatched": KTO(beta=20.0, baseline="mismatched"),
    "sft": SFT(),
}


def rank_settings(kind: str, batch_size: int, **changes: Any) -> AlignSettings:
    """Of a short run; `changes` are the trainer's."""
    base = settings(changes.pop("steps", 4), changes.pop("checkpoint_every", 2))
    objective = OBJECTIVES[kind.removeprefix("slotted ").partition(" with ")[0]]
    watch = MonitorSettings(held_out=0.5, every=2) if kind == "dpo" else MonitorSettings()
    return replace(
        base,
        run="ranks",
        objective=objective,
        batch_size=batch_size,
        micro_batch_size=1,
        monitor=watch,
        reference_slots=2 if "slotted" in kind else 0,
        trainer=replace(base.trainer, check_ranks_every=1, **changes),
    )


def run(model: str, folder: Path, kind: str, batch_size: int, changes: dict[str, Any]) -> None:
    """`align` in this process, whichever rank it is."""
    torch.set_num_threads(1)
    ranks = start_ranks()
    with together(ranks):
        with ranks.first():
            workspace = Workspace.create(folder, model=model)
            data = random_preferences(folder)
            if "nan" in kind and ranks.main:
                spoil(folder / "random.safetensors")
        generator = load_generator(model)
        if "another model" in kind and ranks.index:
            generator.pipeline.transformer.proj_out.weight.data[0, 0] += 1e-3
        if "failure" in kind and ranks.index:
            fail_late(generator)
        align(workspace, generator, rank_settings(kind, batch_size, **changes), data=data, ranks=ranks)


def climb(model: str, folder: Path, kind: str, batch_size: int, changes: dict[str, Any]) -> None:
    """`align_by_reward_gradient` in this process, by a reward that cannot score one of the prompts."""
    torch.set_num_threads(1)
    ranks = start_ranks()
    with together(ranks):
        with ranks.first():
            workspace = Workspace.create(folder, model=model)
            if ranks.main:
                prompts = [f"a {colour} square" for colour in ("red", "green", "blue")]
                workspace.add_prompts([*prompts, "a red disc"], "train")
        settings = RewardGradientSettings(
            run="ranks",
            reward=RewardChoice(name="recipes.pixel_rewards:Unsure"),
            objective=RewardGradient(reference=0.1),
            lora=LoRA(rank=2),
            batch_size=batch_size,
            micro_batch_size=1,
            trackers=(),
            trainer=TrainerSettings(
                steps=4, learning_rate=0.02, checkpoint_every=2, check_ranks_every=1, ema_decay=0.5, **changes
            ),
        )
        sampling = GenerateSettings(num_frames=5, height=16, width=16, num_inference_steps=2)
        align_by_reward_gradient(workspace, load_generator(model), settings, sampling=sampling, ranks=ranks)


def spoil(shard: Path) -> None:
    """One video of which nothing can be learnt."""
    latents = load_file(shard)
    latents["1"][0, 0, 0, 0] = torch.nan
    save_file(latents, shard)


def fail_late(generator: Generator) -> None:
    """The third forward fails, as memory that runs out would."""
    calls = itertools.count()

    def hook(*_: Any) -> None:
        if next(calls) == 2:
            raise RuntimeError("this rank alone")

    generator.denoisers["transformer"].register_forward_pre_hook(hook)


def assert_sharded(model: str) -> None:
    """Every rank holds its slice of every weight."""
    ranks = start_ranks()
    assert ranks.count == 2
    policy = Policy(load_generator(model), LoRA(rank=4), ranks=ranks, sharded=True)
    weights = list(policy.generator.denoisers["transformer"].parameters())
    assert all(isinstance(each, DTensor) for each in weights)
    assert {each.device_mesh.size() for each in weights if isinstance(each, DTensor)} == {2}
    held = sum(each.to_local().numel() for each in weights if isinstance(each, DTensor))
    assert held < 0.6 * sum(each.numel() for each in weights)
