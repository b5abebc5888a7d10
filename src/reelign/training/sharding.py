"""Weights split over the ranks (FSDP2), for models that do not fit on one device.

torch's own `fully_shard`, which accelerate's FSDP2 calls on GPUs too; accelerate itself would train without sharding on
a CPU, and say nothing. Each rank keeps a slice of every weight, its gradient and its optimiser state, and a block's
weights are brought together while it runs.

What trains is kept in fp32, since a master copy of every slice would have to follow each gathering, but it is gathered
in the precision that it was loaded in: the policy computes as its reference does, and as one process would.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from reelign.errors import ReelignError

Precision = Mapping[nn.Parameter, torch.dtype]
"""What each weight that is not split yet was loaded in."""


def wanted_by_launcher() -> bool:
    """Whether `accelerate launch` was told to use FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def shard(denoiser: nn.Module) -> None:
    """Split a denoiser's weights over all ranks, block by block; its gradients become means over the ranks.

    Raises:
        ReelignError: one of its modules holds weights of two precisions, which cannot be gathered together.
    """
    precision = {parameter: parameter.dtype for parameter in denoiser.parameters()}
    computes_in = getattr(denoiser, "dtype", None)
    for parameter in precision:
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    blocks = [block for child in denoiser.children() if isinstance(child, nn.ModuleList) for block in child]
    for module in (*blocks, denoiser):
        _split(module, precision)
    if computes_in is not None:
        _say_precision(denoiser, computes_in)


def _split(module: nn.Module, precision: Precision) -> None:
    """One group of the module's weights, and one of each part of it that has another precision."""
    own = _own_precision(module, precision)
    for part in _parts_apart(module, own, precision):
        _group(part, _own_precision(part, precision))
    _group(module, own)


def _group(module: nn.Module, computes_in: torch.dtype) -> None:
    # Inputs come as they do on one process. The outermost group too is given back after a forward, or weights that are
    # exchanged between two forwards (an average looked at, a state loaded) would not be seen by the second.
    policy = MixedPrecisionPolicy(param_dtype=computes_in, reduce_dtype=torch.float32, cast_forward_inputs=False)
    fully_shard(module, mp_policy=policy, reshard_after_forward=True)


def _own_precision(module: nn.Module, precision: Precision) -> torch.dtype:
    """Of the weights that are the module's own and no child's; where it has none, of most of its weights."""
    kinds = {precision[each] for each in module.parameters(recurse=False) if each in precision}
    if len(kinds) > 1:
        raise ReelignError(
            f"A {type(module).__name__} holds weights of two precisions, {' and '.join(sorted(map(str, kinds)))}; "
            "they cannot be split over ranks together.",
            "Load the model in one precision (model.dtype=float32), or train without trainer.sharded.",
        )
    if kinds:
        return kinds.pop()
    sizes: dict[torch.dtype, int] = {}
    for parameter in module.parameters():
        if parameter in precision:
            sizes[precision[parameter]] = sizes.get(precision[parameter], 0) + parameter.numel()
    return max(sizes, key=lambda kind: sizes[kind], default=torch.float32)


def _parts_apart(module: nn.Module, own: torch.dtype, precision: Precision) -> list[nn.Module]:
    """The largest parts of a module whose weights all have one precision, and that another than `own`."""
    found = []
    for child in module.children():
        kinds = {precision[each] for each in child.parameters() if each in precision}
        if kinds <= {own}:
            continue
        if len(kinds) > 1 or isinstance(child, nn.ModuleList | nn.ModuleDict):  # a list or dict is never called itself
            found += _parts_apart(child, own, precision)
        else:
            found.append(child)
    return found


def _say_precision(denoiser: nn.Module, computes_in: torch.dtype) -> None:
    """diffusers reads a model's precision off its first weight, which now is fp32; some models ask it as they run."""
    own = type(denoiser)
    denoiser.__class__ = type(own.__name__, (own,), {"dtype": computes_in})


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
