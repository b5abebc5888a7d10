"""What of a reward trains: as the loop's policy is to a generator, so is this to a VideoRewardModel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.objectives.ranking import BradleyTerryTies
from reelign.recipes.reward_settings import RewardLoRA, RewardSettings
from reelign.rewards.videoreward_model import VideoRewardModel
from reelign.training.trained import TrainedWeights


class TieWidth(nn.Module):
    """log θ of each dimension, above 0; it trains where the objective learns θ."""

    def __init__(self, objective: BradleyTerryTies, dimensions: int) -> None:
        super().__init__()
        log_theta = torch.full((dimensions,), objective.theta).log()
        # The inverse of softplus.
        self.raw = nn.Parameter(log_theta + torch.log(-torch.expm1(-log_theta)), requires_grad=objective.learn_theta)

    def forward(self) -> Tensor:
        """(dimensions,) float32."""
        return nn.functional.softplus(self.raw)


class RewardPolicy(TrainedWeights):
    """Trainable weights over a reward model.

    The table of word embeddings never trains: of its rows only the reward tokens' could learn anything that the layers
    above cannot, and these are a parameter of their own.

    Args:
        model: with its weights, on its device.
        settings: what trains.
    """

    def __init__(self, model: VideoRewardModel, settings: RewardSettings) -> None:
        self.model = model
        self.ties: TieWidth | None = None
        model.requires_grad_(False)
        model.eval()  # no dropout: both videos of a pair are to be judged by the same model
        visual, language = model.backbone.visual, model.backbone.language_model
        if settings.train == "full":
            language.requires_grad_(True)
            language.get_input_embeddings().requires_grad_(False)
        elif settings.train == "lora":
            add_lora(language, settings.lora, settings.seed)
        if settings.train_vision and settings.train != "head":
            visual.requires_grad_(True)
        model.head.requires_grad_(True)
        if model.reward_tokens is not None:
            model.reward_tokens.requires_grad_(True)
        trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
        if isinstance(settings.objective, BradleyTerryTies):
            self.ties = TieWidth(settings.objective, len(model.settings.dimensions)).to(model.device)
            trained |= {f"ties.{name}": each for name, each in self.ties.named_parameters() if each.requires_grad}
        super().__init__(trained)

    @property
    def new_parameters(self) -> list[nn.Parameter]:
        """Those of `parameters` that start from nothing: reward tokens, head and θ."""
        return [each for name, each in self.parameters.items() if not name.startswith("backbone.")]

    def enable_activation_checkpointing(self) -> None:
        """Run the blocks of tower and language model again in the backward pass.

        Raises:
            ReelignError: the backbone has dropout, which would fall on other values the second time.
        """
        backbone = self.model.backbone
        if any(isinstance(each, nn.Dropout) and each.p > 0 for each in backbone.modules()) or _attention_dropout(
            backbone
        ):
            raise ReelignError(
                "The backbone's config asks for dropout, which activation checkpointing would switch on.",
                "Set its dropouts to 0, or trainer.activation_checkpointing=none.",
            )
        backbone.gradient_checkpointing_enable({"use_reentrant": False})
        backbone.train()  # transformers' layers look at this flag

    def fold(self) -> VideoRewardModel:
        """The model with its adapter added to the weights, as if they had trained: nothing of peft remains in it.

        Training ends with this.
        """
        language = self.model.backbone.language_model
        for name, layer in list(language.named_modules()):
            if hasattr(layer, "lora_A"):
                layer.merge(safe_merge=True)
                parent, _, own = name.rpartition(".")
                setattr(language.get_submodule(parent), own, layer.base_layer)
        return self.model.requires_grad_(False).eval()


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


def _attention_dropout(backbone: Any) -> bool:
    return bool(getattr(backbone.config.get_text_config(), "attention_dropout", 0.0))
