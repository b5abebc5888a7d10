"""What of a reward trains: as the loop's policy is to a generator, so is this to a VideoRewardModel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.objectives.ranking import BradleyTerryTies
from reelign.recipes.reward_settings import RewardLoRA, RewardSettings
from reelign.rewards.videoreward_model import VideoRewardModel
from reelign.training.masters import Masters
from reelign.training.ranks import ALONE, Ranks


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


class RewardPolicy:
    """Trainable weights over a reward model; what the optimiser moves is fp32 whatever the model computes in.

    The loop asks a policy for `parameters`, `average`, `ranks`, `refresh`, `state_dict` and `load_state_dict`.
    The table of word embeddings never trains: of its rows only the reward tokens' could learn anything that the layers
    above cannot, and these are a parameter of their own.

    Args:
        model: with its weights, on its device.
        settings: what trains.
    """

    def __init__(self, model: VideoRewardModel, settings: RewardSettings) -> None:
        self.model = model
        self.ranks: Ranks = ALONE
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
        self.masters = Masters(trained)
        self.parameters: dict[str, nn.Parameter] = self.masters.parameters
        """What the optimiser moves, by unique name and in a fixed order; `refresh` after it did."""
        self.average: dict[str, Tensor] | None = None
        """The moving average of `parameters` where the loop keeps one: what is looked at, and saved at the end."""

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Run the block under the moving average, where one is kept; the weights come back bit for bit."""
        if self.average is None:
            yield
            return
        own = {name: each.clone() for name, each in self.state_dict().items()}
        self.load_state_dict(self.average)
        try:
            yield
        finally:
            self.load_state_dict(own)

    @property
    def new_parameters(self) -> list[nn.Parameter]:
        """Those of `parameters` that start from nothing: reward tokens, head and θ."""
        return [each for name, each in self.parameters.items() if not name.startswith("backbone.")]

    @property
    def trained_values(self) -> int:
        """How many numbers train."""
        return sum(parameter.numel() for parameter in self.parameters.values())

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

    def refresh(self) -> None:
        """Let the model compute with what the optimiser has moved."""
        self.masters.refresh()

    def state_dict(self) -> dict[str, Tensor]:
        """Trainable weights, detached, by name."""
        return {name: parameter.detach() for name, parameter in self.parameters.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load trainable weights strictly: a missing or unexpected name is an error."""
        missing, unexpected = self.parameters.keys() - state.keys(), state.keys() - self.parameters.keys()
        if missing or unexpected:
            raise ReelignError(
                f"The saved weights do not fit: missing {sorted(missing)[:3]}, unexpected {sorted(unexpected)[:3]}.",
                "Load them with the backbone and the settings they were trained with.",
            )
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state[name])
        self.refresh()

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
