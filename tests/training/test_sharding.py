"""Whole weights and their split."""

from __future__ import annotations

import torch
from torch import nn

from reelign.training.sharding import split_like


def test_what_a_checkpoint_held_goes_where_its_parameter_is() -> None:
    """A device without values stands for a GPU: a file is always read to the CPU."""
    parameter = nn.Parameter(torch.empty(3, device="meta"))
    average = split_like(torch.zeros(3), parameter)
    assert average.device == parameter.device
    average.lerp_(parameter.detach(), 0.1)


def test_a_whole_tensor_beside_its_parameter_is_itself() -> None:
    tensor = torch.zeros(3)
    assert split_like(tensor, nn.Parameter(torch.zeros(3))) is tensor
