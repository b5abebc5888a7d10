"""Settings of training a reward."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from reelign.objectives.ranking import BradleyTerry, BradleyTerryTies, ScoreRegression
from reelign.rewards.qwen_vision import ClipSettings
from reelign.rewards.qwen_vl import Positions
from reelign.training.settings import TrainerSettings

Objective = Annotated[BradleyTerryTies | BradleyTerry | ScoreRegression, Field(discriminator="name")]


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardLoRA:
    """A low-rank adapter on the language model's linear layers, folded into them when training ends."""

    rank: int = 64
    alpha: int = 128
    """The update is scaled by alpha / rank; VideoReward's are 64 and 128."""

    def __post_init__(self) -> None:
        for name in ("rank", "alpha"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchSettings:
    """What is looked at while a reward trains, on videos of prompts that it never trains on."""

    held_out: float = 0.1
    """Share of the prompts that are looked at and reported on; 0 looks at none."""
    calibration: float = 0.1
    """Share of the prompts that temperature and tie threshold are fitted on; 0 fits none."""
    every: int = 50
    """Steps between two looks; one look scores every held-out video once."""
    patience: int = 0
    """End the run after so many looks in a row without a lower held-out loss, and keep the weights of the lowest; 0
    runs to the last step and keeps the last weights."""
    overfit_gap: float = 0.15
    """The alarm: by how much the accuracy on trained pairs may exceed that on held-out ones."""

    def __post_init__(self) -> None:
        for name in ("held_out", "calibration"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be a share in [0, 1), got {getattr(self, name)}")
        if not self.held_out + self.calibration < 1:
            raise ValueError(
                f"held_out and calibration must leave pairs to train on, got {self.held_out} and {self.calibration}"
            )
        if self.every < 1:
            raise ValueError(f"every must be at least 1, got {self.every}")
        if self.patience < 0:
            raise ValueError(f"patience must be at least 0, got {self.patience}")
        if self.patience and not self.held_out:
            raise ValueError(f"patience={self.patience} waits for held-out pairs; set held_out too")
        if not 0 < self.overfit_gap <= 1:
            raise ValueError(f"overfit_gap must be a share in (0, 1], got {self.overfit_gap}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardSettings:
    """How a reward of VideoReward's architecture is trained (Liu et al. 2025, arXiv:2501.13918)."""

    run: str = "reward"
    """The run's name and folder; the same name goes on with a stopped run."""
    backbone: str = "Qwen/Qwen2-VL-2B-Instruct"
    """Hub id or folder of a Qwen2-VL, Qwen2.5-VL or Qwen3-VL model, to start from nothing but its pretraining."""
    start_from: str = ""
    """A trained reward to go on from instead: `KlingTeam/VideoReward`, or the folder of one of your own. It brings its
    dimensions, template, positions and pixel budget."""
    dimensions: tuple[str, ...] = ("VQ", "MQ", "TA")
    """Names as the judgements have them."""
    agnostic: tuple[str, ...] = ("VQ", "MQ")
    """Dimensions whose token stands before the prompt, so that they cannot see it."""
    pooling: Literal["special", "last"] = "special"
    """Read each dimension at a token of its own, or all at the last token of the text."""
    template: Literal["auto", "detailed", "short"] = "auto"
    """The question: VideoReward's own long one, which speaks of VQ, MQ and TA, or a short one of any dimensions;
    `auto` takes the long one where it fits."""
    positions: Positions = "multimodal"
    """Rotary positions: the backbone's own, or `sequential` as VideoReward was trained."""
    train: Literal["lora", "full", "head"] = "lora"
    """What of the language model trains: an adapter, all but its word embeddings, or nothing. Reward tokens and head
    train always."""
    train_vision: bool = True
    """Whether the vision tower trains too, whole, as VideoReward's did; never with train=head."""
    head_rate: float = 1.0
    """Learning rate of reward tokens and head, which start from nothing, as a multiple of the rest's (VideoReward: 1).
    A small backbone forgets what it sees at the rate that its new head needs."""
    lora: RewardLoRA = field(default_factory=RewardLoRA)
    objective: Objective = field(default_factory=BradleyTerryTies)
    split: str = "train"
    """Prompts of the workspace whose judgements it learns from; '' takes all of them."""
    scores: Literal["ratings", "wins"] = "ratings"
    """What regression and the margins made of scores learn from: mean ratings, or the share of its comparisons that a
    video won, ties half, on a scale from 1 to 5."""
    clips: ClipSettings = field(default_factory=ClipSettings)
    """Frames and pixels looked at."""
    batch_size: int = 32
    """Pairs in an optimiser step; VideoReward's 32."""
    micro_batch_size: int = 8
    """Pairs in a forward call."""
    epochs: float = 2.0
    """Passes over the pairs; 0 goes by trainer.steps."""
    mixing: Literal["groups", "pairs"] = "groups"
    """`groups` keeps the pairs of a prompt together, so that a video in several of them is read once an epoch and goes
    through the model once a batch (Ouyang et al. 2022, arXiv:2203.02155, section 3.5); `pairs` shuffles them all."""
    trainer: TrainerSettings = field(
        default_factory=lambda: TrainerSettings(learning_rate=2e-6, warmup_steps=10, checkpoint_every=200)
    )
    watch: WatchSettings = field(default_factory=WatchSettings)
    cache_gb: float = 4.0
    """Memory for decoded and resized videos; those used longest ago are read again."""
    workers: int = 2
    """Threads that decode and resize ahead."""
    device: str = "auto"
    """`auto` takes a GPU where there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the model; what trains has fp32 masters. `auto` is bfloat16 on a GPU and float32 on the CPU."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "micro_batch_size", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.epochs < math.inf:
            raise ValueError(f"epochs must be at least 0, got {self.epochs}")
        if not 0 < self.head_rate < math.inf:
            raise ValueError(f"head_rate must be positive, got {self.head_rate}")
        if not self.cache_gb > 0:
            raise ValueError(f"cache_gb must be positive, got {self.cache_gb}")
        if self.trainer.sharded:
            raise ValueError("trainer.sharded splits weights over processes, and a reward is trained by one")
        if self.trainer.activation_checkpointing == "selective":
            raise ValueError("trainer.activation_checkpointing of a reward is none or full, got selective")
        unknown = [name for name in self.agnostic if self.template != "short" and name not in self.dimensions]
        if unknown and self.agnostic != ("VQ", "MQ"):
            raise ValueError(f"agnostic must be among the dimensions, got {', '.join(unknown)}")

    def steps(self, pairs: int) -> int:
        """Optimiser steps of a run on so many pairs."""
        return math.ceil(self.epochs * pairs / self.batch_size) if self.epochs else self.trainer.steps
