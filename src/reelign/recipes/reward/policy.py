"""What of a reward trains: as the loop's policy is to a generator, so is this to a VideoRewardModel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reelign.objectives.ranking import BradleyTerryTies
from reelign.recipes.language_adapters import add_lora, fold_lora, recompute_blocks
from reelign.recipes.reward.settings import RewardSettings
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
        """Run the blocks of tower and language model again in the backward pass; a backbone with dropout is refused."""
        recompute_blocks(self.model.backbone)

    def fold(self) -> VideoRewardModel:
        """The model with its adapter added to the weights. Training ends with this."""
        fold_lora(self.model.backbone.language_model)
        return self.model.requires_grad_(False).eval()
