"""fp32 master copies of weights that the model holds in lower precision.

A bf16 weight of 1 does not notice an update below 0.004. The model computes with its own weights, whose gradients move
into the fp32 masters as they come, so that micro-batches too are added in fp32; the optimiser moves the masters, and
the model's weights are rounded from them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch import nn


class Masters:
    """Masters of trainable parameters; a parameter that is fp32 is its own.

    Args:
        trained: the model's parameters by name.
    """

    def __init__(self, trained: Mapping[str, nn.Parameter]) -> None:
        self.parameters: dict[str, nn.Parameter] = {}
        self._copies: list[tuple[nn.Parameter, nn.Parameter]] = []
        for name, own in trained.items():
            master = own
            if own.dtype != torch.float32:
                master = nn.Parameter(own.detach().float())
                own.register_post_accumulate_grad_hook(functools.partial(_hand_over, master))
                self._copies.append((own, master))
            self.parameters[name] = master

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the model's weights from their masters."""
        for own, master in self._copies:
            own.copy_(master)


def _hand_over(master: nn.Parameter, own: nn.Parameter) -> None:
    assert own.grad is not None
    gradient, own.grad = own.grad.float(), None
    if master.grad is None:
        master.grad = gradient
    else:
        master.grad.add_(gradient)
