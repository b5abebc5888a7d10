"""Bytes of tensors that live at a time, real or fake: what a step needs, without what an allocator adds."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveMemory(TorchDispatchMode):
    """Counts every storage once, from the operation that makes it until nothing holds it.

    Args:
        held: tensors that are there before, such as a model's weights.
        fake: the tensors have no values; what is asked of them as a number is 0.
    """

    def __init__(self, held: Any = (), *, fake: bool = False) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.fake = fake
        self._known: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._count(held)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.fake and func is torch.ops.aten._local_scalar_dense.default:
            return 0.0
        found = func(*args, **(kwargs or {}))
        self._count(found)
        return found

    def _count(self, found: Any) -> None:
        for tensor in tree_iter(found):
            if isinstance(tensor, Tensor):
                self._enter(tensor.untyped_storage())
        self.peak = max(self.peak, self.now)

    def _enter(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known[storage] = size
        self.now += size
        weakref.finalize(storage, self._leave, size)

    def _leave(self, size: int) -> None:
        self.now -= size
