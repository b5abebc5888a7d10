"""A low-rank adapter on denoisers: what of them it may sit on, and how it is put there and switched."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from reelign.errors import ReelignError
from reelign.generators.base import Generator
from reelign.training.adapters import ADAPTER, REFERENCE

TAKE_ADAPTERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)
"""Layers that peft can put an adapter on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoRA:
    """A low-rank adapter (Hu et al. 2021, arXiv:2106.09685) on the denoiser's linear layers."""

    rank: int = 16
    alpha: int = 16
    """The update is scaled by alpha / rank."""
    targets: tuple[str, ...] = ()
    """Endings of the module names that take the adapter; empty means the family's own list."""
    dora: bool = False
    """Train each weight's magnitude apart from its direction (DoRA, Liu et al. 2024, arXiv:2402.09353): nearer to full
    fine-tuning at the same rank, and slower."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")
        if self.alpha < 1:
            raise ValueError(f"alpha must be at least 1, got {self.alpha}")


def check_targets(generator: Generator, lora: LoRA) -> None:
    """Refuse target names that no layer ends in, or that end in what takes no adapter."""
    layers = [(name, each) for denoiser in generator.denoisers.values() for name, each in denoiser.named_modules()]
    for target in lora.targets:
        found = [(name, each) for name, each in layers if name == target or name.endswith(f".{target}")]
        unfit = [name for name, each in found if not isinstance(each, TAKE_ADAPTERS)]
        if not found or unfit:
            what = f"{unfit[0]} of {generator.model} is no layer" if unfit else f"{generator.model} has no layer"
            end = "that takes an adapter" if unfit else f"whose name ends in {target}"
            raise ReelignError(
                f"lora.targets names {target!r}: {what} {end}.",
                f"Name endings such as {', '.join(generator.lora_targets)}, or leave lora.targets empty.",
            )


def activate(denoisers: Mapping[str, Any], adapter: str) -> None:
    """Compute with this adapter; gradients are for the policy's alone."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for denoiser in denoisers.values():
        for module in denoiser.modules():
            if isinstance(module, BaseTunerLayer):
                module.set_adapter([adapter], inference_mode=adapter != ADAPTER)


def switch_adapters(denoiser: Any, *, on: bool) -> None:
    """Compute with the adapter, or as the base without it."""
    if on:
        denoiser.enable_adapters()
    else:
        denoiser.disable_adapters()


def add_adapters(denoiser: Any, lora: LoRA, targets: tuple[str, ...], seed: int, *, reference: bool) -> None:
    """Put the policy's adapter on a denoiser, and one for a reference that moves."""
    from peft import LoraConfig

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=list(targets),
        init_lora_weights=True,
        use_dora=lora.dora,
    )
    for name in (ADAPTER, *([REFERENCE] if reference else [])):
        # peft draws from the global generator; give it ours and hand the old state back.
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # as is meant
            torch.manual_seed(seed)
            denoiser.add_adapter(config, adapter_name=name)
    if reference:
        activate({"": denoiser}, ADAPTER)
    for name, parameter in denoiser.named_parameters():
        if parameter.requires_grad and "lora_" not in name:
            raise AssertionError(f"{name} trains but is no part of the adapter")
