"""Activation checkpointing: blocks that keep their inputs alone and run again in the backward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

ATTENTION = (
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)
"""torch's attention kernels. Over long sequences they are most of a forward's time and little of its memory."""


def run_again(forward: Callable[..., Any], *inputs: Any, **settings: Any) -> Any:
    """A forward whose activations are made anew in the backward pass; as ever where there is no gradient."""
    return _checkpointed({}, forward, inputs, settings)


def run_again_but_attention(forward: Callable[..., Any], *inputs: Any, **settings: Any) -> Any:
    """`run_again`, with what attention gives kept: it is not computed twice."""
    kept = [getattr(torch.ops.aten, name).default for name in ATTENTION if hasattr(torch.ops.aten, name)]
    how = {"context_fn": functools.partial(create_selective_checkpoint_contexts, kept)}
    return _checkpointed(how, forward, inputs, settings)


def checkpoint_blocks(model: nn.Module, classes: Sequence[str], *, keep_attention: bool) -> None:
    """Run the blocks of these class names again in the backward pass; called twice is called once.

    For models that diffusers gives no checkpointing, or of their residual blocks alone.
    """
    again = run_again_but_attention if keep_attention else run_again
    for module in model.modules():
        if type(module).__name__ in classes:
            # In place, not wrapped in a module of torch's: that would rename every parameter.
            module.forward = functools.partial(again, type(module).forward.__get__(module))


def _checkpointed(
    how: dict[str, Any], forward: Callable[..., Any], inputs: tuple[Any, ...], settings: dict[str, Any]
) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **settings)
    return checkpoint(forward, *inputs, use_reentrant=False, **how, **settings)
