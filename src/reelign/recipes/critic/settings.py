"""Settings of training a critic."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from reelign.critics.local_qwen import Pixels
from reelign.recipes.reward.settings import RewardLoRA
from reelign.recipes.reward.settings import WatchSettings as RankingWatch
from reelign.training.settings import TrainerSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class CriticWatch:
    """What is looked at while a critic trains, on votes on videos of prompts that it never trains on."""

    held_out: float = 0.1
    """Share of the prompts; 0 looks at none."""
    every: int = 50
    """Steps between two looks at the surprise at the right answers."""
    patience: int = 0
    """End the run after so many looks in a row without a lower surprise, and keep the weights of the lowest; 0 runs to
    the last step and keeps the last weights."""
    asked: int = 200
    """Held-out questions that the trained critic is asked at the end, in its own words; 0 asks none."""
    overfit_gap: float = 0.15
    """The alarm: by how much the share of right verdicts on trained answers may exceed that on held-out ones."""

    def __post_init__(self) -> None:
        self.ranking()
        if self.asked < 0:
            raise ValueError(f"asked must be at least 0, got {self.asked}")

    def ranking(self) -> RankingWatch:
        """As the monitor of trained rewards takes it, which looks at critics too."""
        return RankingWatch(
            held_out=self.held_out,
            calibration=0.0,
            every=self.every,
            patience=self.patience,
            overfit_gap=self.overfit_gap,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CriticSettings:
    """How a critic is trained: instruction tuning on votes with their reasons (IPO, Yang et al. 2025, section 4.2)."""

    run: str = "critic"
    """The run's name and folder; the same name goes on with a stopped run."""
    backbone: str = "Qwen/Qwen2.5-VL-7B-Instruct"
    """Hub id or folder of a vision-language model of transformers, or of a critic trained before."""
    dimensions: tuple[str, ...] = ("VQ", "MQ", "TA")
    """Names as the judgements have them."""
    own: dict[str, str] = field(default_factory=dict)
    """Dimensions of one's own, name -> what is judged, in words."""
    split: str = "train"
    """Prompts of the workspace whose judgements it learns from; '' takes all of them."""
    judges: tuple[str, ...] = ()
    """Only these judges; () takes all who count in votes."""
    reasons: Literal["where_given", "required"] = "where_given"
    """Whether votes without any reason teach their verdict alone or are left out."""
    frames: int = 16
    """Shown of each video, evenly spread and whole."""
    pixels: Pixels = field(default_factory=Pixels)
    """The size of a frame, for a Qwen-VL."""
    train: Literal["lora", "full"] = "lora"
    """What of the language model trains: an adapter, folded into it at the end, or all of it."""
    train_vision: bool = False
    """Whether the vision tower trains too, whole."""
    lora: RewardLoRA = field(default_factory=RewardLoRA)
    verdict_weight: float = 1.0
    """How much the tokens of a verdict count against those of its reasons; 1 is plain instruction tuning."""
    batch_size: int = 16
    """Votes in an optimiser step; a pair goes through in both orders."""
    epochs: float = 5.0
    """Passes over the votes (IPO: 5); 0 goes by trainer.steps. Each takes the next of several judges' reasons."""
    trainer: TrainerSettings = field(
        default_factory=lambda: TrainerSettings(
            learning_rate=1e-4, warmup_steps=10, schedule="cosine", checkpoint_every=100
        )
    )
    """At train=full a rate of 2e-5 (IPO)."""
    watch: CriticWatch = field(default_factory=CriticWatch)
    cache_gb: float = 4.0
    """Memory for the frames of decoded videos; those used longest ago are read again."""
    workers: int = 2
    """Threads that decode ahead."""
    max_tokens: int = 512
    """After which an answer of the trained critic is cut off."""
    device: str = "auto"
    """`auto` takes a GPU where there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the model; what trains has fp32 masters. `auto` is bfloat16 on a GPU and float32 on the CPU."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "workers", "frames", "max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.epochs < math.inf:
            raise ValueError(f"epochs must be at least 0, got {self.epochs}")
        if not 0 < self.verdict_weight < math.inf:
            raise ValueError(f"verdict_weight must be positive, got {self.verdict_weight}")
        if not self.cache_gb > 0:
            raise ValueError(f"cache_gb must be positive, got {self.cache_gb}")
        if not self.dimensions:
            raise ValueError("dimensions must name one at least, got none")
        if self.trainer.sharded:
            raise ValueError("trainer.sharded splits weights over processes, and a critic is trained by one")
        if self.trainer.activation_checkpointing == "selective":
            raise ValueError("trainer.activation_checkpointing of a critic is none or full, got selective")

    def steps(self, votes: int) -> int:
        """Optimiser steps of a run on so many votes."""
        return math.ceil(self.epochs * votes / self.batch_size) if self.epochs else self.trainer.steps
