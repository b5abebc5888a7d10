"""A judge that can be worked by hand, and online runs of the tiny Wan small enough for every test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelign.generators import load_generator
from reelign.objectives import DPO
from reelign.recipes.offline.align import Aligned
from reelign.recipes.online.align import align_online
from reelign.recipes.online.feedback import RewardFeedback
from reelign.recipes.online.settings import OnlineSettings, RolloutSettings
from reelign.recipes.sampling import GenerateSettings
from reelign.records import Workspace
from reelign.rewards import Reward, RewardCard, Videos
from reelign.rewards.judging import RewardUse
from reelign.training import LoRA, TrainerSettings
from reelign.training.launch import start_ranks, together

PROMPTS = ["a red square", "a blue disc moves", "a disc"]
SAMPLING = GenerateSettings(
    num_inference_steps=2, guidance_scale=1.0, num_frames=9, height=16, width=16, fps=8, batch_size=3
)


class Light(Reward):
    """Brightness of the first frame and of the last one; counts what it sees."""

    card = RewardCard(what="Brightness", dimensions=("first", "last"), differentiable=False, frames_needed=1)
    name = "light"
    version = "1"
    dimensions = ("first", "last")

    def __init__(self, *, blind: int = 0, equal: int = 0, without: str = "no such word") -> None:
        """Of its first calls `blind` have no score, and the `equal` next find all alike; a prompt `without` never has
        one."""
        self.blind, self.equal, self.without = blind, equal, without
        self.shapes: list[tuple[int, ...]] = []
        """Of the videos of each call."""

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        stacked = torch.stack(list(videos))
        self.shapes.append(tuple(stacked.shape))
        light = {"first": stacked[:, 0].flatten(1).mean(dim=1), "last": stacked[:, -1].flatten(1).mean(dim=1)}
        call = len(self.shapes)
        if any(self.without in prompt for prompt in prompts):
            return {name: torch.full_like(values, torch.nan) for name, values in light.items()}
        if call <= self.blind:
            return {name: torch.full_like(values, torch.nan) for name, values in light.items()}
        if call <= self.blind + self.equal:
            return {name: torch.zeros_like(values) for name, values in light.items()}
        return light


class Glance(Light):
    """Looks at the first frame alone."""

    name = "glance"
    dimensions = ("first",)

    def frames_read(self, count: int) -> list[int]:
        return [0]

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        return {"first": super().score(videos, prompts, fps=fps)["first"]}


class Named(Glance):
    """Is called what the judge of comparisons in `recipes.judges` is called."""

    name = "brightness"


def settings(steps: int = 2, **changes: Any) -> OnlineSettings:
    """Of a short run; `trainer` changes a part of the trainer's."""
    trainer = TrainerSettings(steps=steps, learning_rate=3e-3, checkpoint_every=2, check_ranks_every=1)
    base = OnlineSettings(
        run="online",
        objective=DPO(beta=10.0),
        prompts=2,
        rollout=RolloutSettings(candidates=3),
        judge="reward:recipes.online_worlds:Light",
        lora=LoRA(rank=2),
        trainer=replace(trainer, **changes.pop("trainer", {})),
        trackers=(),
    )
    return replace(base, **changes)


def world(folder: Path, model: str) -> Workspace:
    workspace = Workspace.create(folder, model=model)
    if not workspace.prompts("train"):
        workspace.add_prompts(PROMPTS, "train")
    return workspace


def align(folder: Path, model: str, how: OnlineSettings, reward: Reward | None = None, **further: Any) -> Aligned:
    """An online run in this process, whichever rank it is."""
    feedback = None if reward is None else RewardFeedback(reward, RewardUse())
    return align_online(
        world(folder, model), load_generator(model), how, sampling=SAMPLING, feedback=feedback, **further
    )


def run(model: str, folder: Path, changes: dict[str, Any]) -> None:
    """The same in a process of its own, to be killed or to be one of several ranks."""
    torch.set_num_threads(1)
    ranks = start_ranks()
    with together(ranks):
        with ranks.first():
            world(folder, model)
        align(folder, model, settings(**changes), ranks=ranks)
