"""What training does to the language model of a vision-language backbone: an adapter on it, folded in at the end."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from reelign.errors import ReelignError
from reelign.recipes.reward.settings import RewardLoRA


def add_lora(language: nn.Module, lora: RewardLoRA, seed: int) -> None:
    """Put an adapter on every linear layer of a language model; its other weights stay frozen."""
    from peft import LoraConfig, inject_adapter_in_model

    # Whole names and no endings: these would meet layers elsewhere that are called alike.
    targets = [name for name, each in language.named_modules() if isinstance(each, nn.Linear)]
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=targets, init_lora_weights=True)
    # peft draws from the global generator; give it ours and hand the old state back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, language)


def fold_lora(language: nn.Module) -> None:
    """Add the adapter to the weights, as if these had trained: nothing of peft remains."""
    for name, layer in list(language.named_modules()):
        if hasattr(layer, "lora_A"):
            layer.merge(safe_merge=True)
            parent, _, own = name.rpartition(".")
            setattr(language.get_submodule(parent), own, layer.base_layer)


def recompute_blocks(backbone: Any) -> None:
    """Run the blocks of tower and language model again in the backward pass.

    Raises:
        ReelignError: the backbone has dropout, which would fall on other values the second time.
    """
    drops = any(isinstance(each, nn.Dropout) and each.p > 0 for each in backbone.modules())
    if drops or float(getattr(backbone.config.get_text_config(), "attention_dropout", 0.0)):
        raise ReelignError(
            "The backbone's config asks for dropout, which activation checkpointing would switch on.",
            "Set its dropouts to 0, or trainer.activation_checkpointing=none.",
        )
    backbone.gradient_checkpointing_enable({"use_reentrant": False})
    backbone.train()  # transformers' layers look at this flag
