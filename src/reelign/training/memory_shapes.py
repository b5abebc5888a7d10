"""What operations make of tensors without values, remembered by shape.

Torch works most shapes out in Python, a millisecond each; a model's blocks ask the same ones thousands of times. What
an operation made is kept as sizes, strides and precision, and the next time a new tensor of these stands for it.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

PLAIN = (type(None), str, torch.dtype, torch.device, torch.layout, torch.memory_format)
"""Arguments that say all they are by being equal."""

_made: dict[Any, tuple[type, list[Any]]] = {}


def remembered(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What the operation gives of tensors on the meta device; it runs where it has not run on the like before."""
    key = None if _shares(func) else _key((args, kwargs))
    if key is None:
        return func(*args, **kwargs)
    if (func, key) in _made:
        return _new(*_made[func, key])
    found = func(*args, **kwargs)
    specs = [_spec(each) for each in (found if isinstance(found, tuple | list) else (found,))]
    if None not in specs:
        _made[func, key] = (type(found), specs)
    return found


@functools.cache
def _shares(func: Any) -> bool:
    """Whether what comes out may lie where what went in does: a view, or something changed in place."""
    schema = func._schema
    return schema.is_mutable or any(each.alias_info is not None for each in (*schema.arguments, *schema.returns))


def _key(argument: Any) -> Any:
    """Equal for arguments of which an operation makes the same shapes; None where that cannot be said."""
    if isinstance(argument, Tensor):
        if type(argument) not in (Tensor, torch.nn.Parameter) or not argument.is_meta or argument.is_complex():
            return None
        return tuple(argument.shape), argument.stride(), argument.dtype
    if isinstance(argument, tuple | list):
        keys = tuple(_key(each) for each in argument)
        return None if None in keys else keys
    if isinstance(argument, dict):
        return _key(tuple((name, argument[name]) for name in sorted(argument)))
    if isinstance(argument, bool | int | float):
        return type(argument), argument
    return (argument,) if isinstance(argument, PLAIN) else None


def _spec(found: Any) -> Any:
    """Sizes, strides and precision of a tensor that fills its own memory; None of anything else."""
    whole = isinstance(found, Tensor) and found.is_meta and not found.is_complex() and type(found) is Tensor
    if not whole or found.untyped_storage().nbytes() != found.numel() * found.element_size():
        return None
    return tuple(found.shape), found.stride(), found.dtype


def _new(kind: type, specs: list[Any]) -> Any:
    made = [torch.empty_strided(size, stride, dtype=dtype, device="meta") for size, stride, dtype in specs]
    if issubclass(kind, Tensor):
        return made[0]
    return made if issubclass(kind, list) else tuple(made)
