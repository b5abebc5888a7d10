"""Weights that the loop trains: what it asks of a policy, for modules that are no generator."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.training.masters import Masters
from reelign.training.ranks import ALONE, Ranks
from reelign.training.sharding import split_like


class MovedWeights:
    """What the optimiser moves of a model: fp32 whatever the model computes in, since small updates are lost in bf16.

    Args:
        trained: the parameters by unique name, in a fixed order.
    """

    def __init__(self, trained: Mapping[str, nn.Parameter]) -> None:
        self.masters = Masters(trained)
        self.parameters: dict[str, nn.Parameter] = self.masters.parameters
        """What the optimiser moves; `refresh` after it did."""

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
                "Load them with the model and the settings they were trained with.",
            )
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(split_like(state[name], parameter))
        self.refresh()


class TrainedWeights(MovedWeights):
    """Trainable weights of a module that is no generator.

    The loop asks a policy for `parameters`, `average`, `ranks`, `refresh`, `state_dict` and `load_state_dict`.

    Args:
        trained: the parameters by unique name, in a fixed order.
    """

    def __init__(self, trained: Mapping[str, nn.Parameter]) -> None:
        super().__init__(trained)
        self.ranks: Ranks = ALONE
        self.average: dict[str, Tensor] | None = None
        """The moving average of `parameters` where the loop keeps one: what is looked at, and saved at the end."""
        self.reference: dict[str, Tensor] | None = None
        """Nothing holds them near anything."""

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
    def trained_values(self) -> int:
        """How many numbers train."""
        return sum(parameter.numel() for parameter in self.parameters.values())
