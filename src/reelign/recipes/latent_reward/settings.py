"""Settings of training a latent reward."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from reelign.diffusion.noise_levels import Distribution
from reelign.objectives.ranking import BradleyTerryTies
from reelign.recipes.latent_reward.prompts import OtherPrompts
from reelign.recipes.reward.settings import Objective, WatchSettings
from reelign.training import LoRA, TrainerSettings
from reelign.training.latent_reward import LatentRewardShape


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentRewardSettings:
    """How a reward on noisy latents is trained (Flow-NRG: Liu et al. 2025, arXiv:2501.13918, section 4.3)."""

    run: str = "latent-reward"
    """The run's name and folder; the same name goes on with a stopped run."""
    dimensions: tuple[str, ...] = ("VQ", "MQ", "TA")
    """Names as the judgements have them."""
    blocks: int = 0
    """Of the denoiser, from the first on; 0 is a quarter of them. More see more and cost more at each guided step."""
    train: Literal["full", "lora", "head"] = "full"
    """`full` trains a copy of these blocks and no more, as the paper does; `lora` an adapter beside the generator's
    own, which are shared; `head` neither. The head trains always."""
    lora: LoRA = field(default_factory=LoRA)
    queries: int = 4
    """Of the head's attention, for each dimension."""
    heads: int = 4
    """Of that attention."""
    head_rate: float = 10.0
    """Learning rate of the head, which starts from nothing, as a multiple of the blocks'."""
    objective: Objective = field(default_factory=BradleyTerryTies)
    levels: Literal["noisy", "clean"] = "noisy"
    """`clean` trains on clean latents alone: the paper's ablation, whose gradients mislead on noisy ones."""
    noise_levels: Distribution = "uniform"
    shift: float = 1.0
    """Shift of the training noise levels towards noise."""
    other_prompts: float = 0.0
    """Pairs that are added to a step, as a share of its own: a video beside itself under another prompt of the data,
    which suits it less, and for regression has the lowest score. They teach the dimensions in `prompted` to read the
    text; pairs of one prompt hardly do."""
    prompted: tuple[str, ...] = ("TA",)
    """Dimensions that depend on the prompt, those of `dimensions` among them."""
    split: str = "train"
    """Prompts of the workspace whose judgements it learns from; '' takes all of them."""
    scores: Literal["ratings", "wins"] = "ratings"
    """What regression and the margins made of scores learn from: mean ratings, or the share of its comparisons that a
    video won, ties half, on a scale from 1 to 5."""
    batch_size: int = 32
    """Pairs in an optimiser step; both sides of a pair share noise and sigma (the paper's batch: 144)."""
    micro_batch_size: int = 8
    """Pairs in a forward call."""
    epochs: float = 2.0
    """Passes over the pairs; 0 goes by trainer.steps."""
    trainer: TrainerSettings = field(
        default_factory=lambda: TrainerSettings(learning_rate=5e-6, warmup_steps=10, checkpoint_every=200)
    )
    watch: WatchSettings = field(default_factory=lambda: WatchSettings(calibration=0.0))
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.dimensions:
            raise ValueError("dimensions must name at least one, got none")
        if self.blocks < 0:
            raise ValueError(f"blocks must be at least 0, got {self.blocks}")
        for name in ("queries", "heads", "batch_size", "micro_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.epochs < math.inf:
            raise ValueError(f"epochs must be at least 0, got {self.epochs}")
        for name in ("head_rate", "shift"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.other_prompts <= 1:
            raise ValueError(f"other_prompts must be a share in [0, 1], got {self.other_prompts}")
        if self.other_prompts and not self.others.dimensions:
            raise ValueError(
                f"other_prompts={self.other_prompts:g} teaches none of the dimensions; name some in prompted"
            )
        if self.watch.calibration:
            raise ValueError(
                f"watch.calibration={self.watch.calibration:g} fits nothing of a latent reward; set it to 0"
            )
        if self.trainer.sharded:
            raise ValueError("trainer.sharded splits weights over processes, and a latent reward is trained by one")
        if self.trainer.activation_checkpointing == "selective":
            raise ValueError("trainer.activation_checkpointing of a latent reward is none or full, got selective")

    @property
    def others(self) -> OtherPrompts:
        """What `other_prompts` adds to a step."""
        return OtherPrompts(
            share=self.other_prompts, dimensions=tuple(name for name in self.dimensions if name in self.prompted)
        )

    def steps(self, pairs: int) -> int:
        """Optimiser steps of a run on so many pairs."""
        return math.ceil(self.epochs * pairs / self.batch_size) if self.epochs else self.trainer.steps

    def shape(self, blocks: int) -> LatentRewardShape:
        """What is made, with its number of blocks filled in."""
        return LatentRewardShape(
            dimensions=self.dimensions,
            blocks=blocks,
            train=self.train,
            lora=self.lora if self.train == "lora" else None,
            levels=self.levels,
            queries=self.queries,
            heads=self.heads,
        )
