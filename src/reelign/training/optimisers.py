"""Optimisers by name."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from reelign.errors import ReelignError
from reelign.training.settings import TrainerSettings


def make_optimiser(parameters: Iterable[nn.Parameter], settings: TrainerSettings) -> torch.optim.Optimizer:
    """AdamW over all parameters, in fp32 or with its two moments in 8 bits (Dettmers et al. 2021, arXiv:2110.02861).

    Raises:
        ReelignError: 8 bits are asked for and bitsandbytes is not installed.
    """
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(
            parameters, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
        )
    try:
        eight_bits: Any = importlib.import_module("bitsandbytes.optim")
    except ImportError as error:
        raise ReelignError(
            "trainer.optimiser = 'adamw_8bit' needs the package bitsandbytes, which is not installed.",
            "pip install 'reelign[8bit]', or take adamw.",
        ) from error
    found: torch.optim.Optimizer = eight_bits.AdamW8bit(
        parameters, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
    )
    return found
