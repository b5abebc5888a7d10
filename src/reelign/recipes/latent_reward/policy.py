"""What of a latent reward trains, and how it is run on a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from reelign.generators.trunk import checkpoint_blocks
from reelign.objectives.ranking import BradleyTerryTies, RankingObjective
from reelign.recipes.latent_reward.batch import LatentBatch
from reelign.recipes.reward.policy import TieWidth
from reelign.training.latent_reward import LatentReward
from reelign.training.trained import TrainedWeights


class LatentRewardPolicy(TrainedWeights):
    """Trainable weights over a latent reward: its head, and a copied trunk or an adapter on a shared one.

    Args:
        model: with gradients off.
        objective: of which θ may train too.
        activation_checkpointing: run the blocks again in the backward pass.
    """

    def __init__(self, model: LatentReward, objective: RankingObjective, *, activation_checkpointing: bool) -> None:
        self.model = model
        self.ties: TieWidth | None = None
        trained = model.trained_parameters()
        for parameter in trained.values():
            parameter.requires_grad_(True)
        if isinstance(objective, BradleyTerryTies):
            self.ties = TieWidth(objective, len(model.settings.dimensions)).to(model.device)
            trained |= {f"ties.{name}": each for name, each in self.ties.named_parameters() if each.requires_grad}
        if activation_checkpointing:
            checkpoint_blocks(model.trunk)
        super().__init__(trained)

    @property
    def new_parameters(self) -> list[torch.nn.Parameter]:
        """Those of `parameters` that start from nothing: head and θ."""
        return [each for name, each in self.parameters.items() if not name.startswith("trunk.")]

    @property
    def trunk_parameters(self) -> list[torch.nn.Parameter]:
        """The others."""
        return [each for name, each in self.parameters.items() if name.startswith("trunk.")]


def forward(model: LatentReward, batch: LatentBatch) -> Tensor:
    """(2P, D) raw rewards of the batch's noisy latents, in one call."""
    device = model.device
    return model.raw(batch.noisy.to(device), batch.sigma.to(device), batch.conditioning.to(device))
