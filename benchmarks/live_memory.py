"""Bytes of tensors that live at a time, real or fake: what a step needs, without what an allocator adds."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
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
        self.now = self.peak = self.host = 0
        self.fake = fake
        self._elsewhere = False
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
        if self._elsewhere:
            self.host += size
            return
        self.now += size
        weakref.finalize(storage, self._leave, size)

    @contextlib.contextmanager
    def elsewhere(self) -> Iterator[None]:
        """Tensors made in the block lie in the host's memory: `host` sums them, `now` and `peak` pass them by."""
        self._elsewhere = True
        try:
            yield
        finally:
            self._elsewhere = False

    def _leave(self, size: int) -> None:
        self.now -= size


@contextlib.contextmanager
def without_values() -> Iterator[FakeTensorMode]:
    """Tensors made in the block have sizes and no values; those made before keep theirs."""

    def convert(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        # torch would swap the old weight for the new one in place, which fake weights do not allow.
        for own in module.modules():
            for name, weight in own._parameters.items():
                if weight is not None:
                    own._parameters[name] = nn.Parameter(change(weight.detach()), weight.requires_grad)
            for name, buffer in own._buffers.items():
                if buffer is not None:
                    own._buffers[name] = change(buffer)
        return module

    with FakeTensorMode(allow_non_fake_inputs=True) as mode, mock.patch.object(nn.Module, "_apply", convert):
        yield mode
