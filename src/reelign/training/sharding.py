"""Weights split over the ranks (FSDP2), for models that do not fit on one device.

torch's own `fully_shard`, which accelerate's FSDP2 calls on GPUs too; accelerate itself would train without sharding on
a CPU, and say nothing. Each rank keeps a slice of every weight, its gradient and its optimiser state, and a block's
weights are brought together while it runs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def wanted_by_launcher() -> bool:
    """Whether `accelerate launch` was told to use FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def shard(denoiser: nn.Module) -> None:
    """Split a denoiser's weights over all ranks, block by block; its gradients become means over the ranks."""
    blocks = [block for child in denoiser.children() if isinstance(child, nn.ModuleList) for block in child]
    for module in (*blocks, denoiser):
        fully_shard(module)


def whole(value: Any) -> Any:
    """Tensors, in dicts and lists too, without their split; all ranks must call it together."""
    if isinstance(value, DTensor):
        return value.full_tensor()
    if isinstance(value, Mapping):
        return {key: whole(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(whole(each) for each in value)
    return value


def split_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor, the same on all ranks, where the parameter is and split as it is."""
    at = tensor.to(parameter.device)
    if not isinstance(parameter, DTensor) or isinstance(tensor, DTensor):
        return at
    return distribute_tensor(at, parameter.device_mesh, parameter.placements)


def split_optimiser_state(optimiser: torch.optim.Optimizer) -> None:
    """Split the moments of split parameters, after whole ones were loaded; counts of steps stay as they are."""
    for parameter, state in optimiser.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = split_like(value, parameter)
