"""Objectives: pure functions from per-video errors to a loss per sample, each with its frozen settings."""

from reelign.objectives.dpo import DPO, dpo_loss
from reelign.objectives.sft import SFT, sft_loss

__all__ = ["DPO", "SFT", "dpo_loss", "sft_loss"]
