"""The plans behind the table of what aligning each published model takes (`planned_table`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from reelign.generators.published import shapes_of, usual_size
from reelign.objectives import DPO, SFT
from reelign.objectives.reward_gradient import RewardGradient
from reelign.recipes.online.settings import OnlineSettings, RolloutSettings
from reelign.recipes.planning.memory_plan import MemoryPlan
from reelign.recipes.planning.plan import plan
from reelign.recipes.reward_gradient.settings import RewardChoice, RewardGradientSettings
from reelign.recipes.sampling import GenerateSettings
from reelign.recipes.settings import AlignSettings, RunSettings
from reelign.rewards.judging import RewardUse
from reelign.training import LoRA, TrainerSettings
from reelign.training.staged_decode import DecodeSettings

ENCODING = ("encode prompts", "encode images", "encode videos")
"""Stages that come once, before anything trains."""
REWARD = "videoreward"
SAVING: dict[str, Any] = {
    "lora": LoRA(rank=64, alpha=128),
    "trainer": TrainerSettings(activation_checkpointing="full"),
    "micro_batch_size": 1,
}
METHODS: dict[str, RunSettings] = {
    "sft": AlignSettings(objective=SFT(), batch_size=8, **SAVING),
    "dpo": AlignSettings(objective=DPO(), batch_size=8, pairing="apart", **SAVING),
    "online": OnlineSettings(
        judge=f"reward:{REWARD}",
        reward=RewardUse(batch_size=1),
        rollout=RolloutSettings(batch_size=1),
        pairing="apart",
        **SAVING,
    ),
    "reward_gradient": RewardGradientSettings(
        objective=RewardGradient(weights={"VQ": 1, "MQ": 1, "TA": 1}),
        reward=RewardChoice(name=REWARD, checkpointing=True),
        decode=DecodeSettings(mode="reverse"),
        batch_size=8,
        **SAVING,
    ),
}
"""The ways of aligning, each with the settings that save memory; in bf16, the VAE too."""


@dataclass(frozen=True)
class Planned:
    """A model by one method, bytes on the device."""

    training: int
    """The most while it samples, decodes, judges and learns."""
    encoding: int
    """The most while prompts, images and clips are encoded before."""
    host: int


def usual_plan(model: str, method: str) -> MemoryPlan:
    """The plan of a published model at its usual size."""
    generator = shapes_of(model, vae_dtype=torch.bfloat16)
    size = usual_size(generator)
    sampling = GenerateSettings(num_frames=size.num_frames, height=size.height, width=size.width)
    return plan(generator, METHODS[method], sampling)


def in_short(found: MemoryPlan) -> Planned:
    """What the table keeps of a plan."""
    parts: dict[bool, int] = {True: 0, False: 0}
    for stage in found.stages:
        before = stage.name in ENCODING
        parts[before] = max(parts[before], stage.total)
    return Planned(training=parts[False], encoding=parts[True], host=found.host)
