"""Bytes of tensors that live at a time, real or without values: what a step needs, less what an allocator adds.

The very code of a step runs, and every tensor it makes is counted from the operation that makes it until nothing holds
it. Without values the tensors lie on torch's meta device: a model of any size runs its shapes on any machine, and what
it does with small tensors in the host's memory (noise levels, seeds, token ids) it does for real.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from reelign.training.memory_shapes import remembered

META = torch.device("meta")
aten = torch.ops.aten
NOT = (aten.bitwise_not.default, aten.logical_not.default)


class LiveMemory(TorchDispatchMode):
    """Counts every storage once, while it lives.

    Args:
        held: tensors that are there before, such as a model's weights: on the device from the first moment.
        device: what counts as the device; tensors elsewhere are the host's.
    """

    def __init__(self, held: Any = (), *, device: torch.device | str = "cpu") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = torch.device(device).type
        self.now = self.peak = self.host = self.host_peak = 0
        self.label = ""
        """What is running: set it, and every tensor made from then on is counted under it."""
        self.live: dict[str, int] = {}
        """Bytes on the device by the label they were made under."""
        self.at_peak: dict[str, int] = {}
        """`live` as it was when most lived."""
        self._known: dict[int, weakref.ref[Any]] = {}
        """Storages that live, by their place in memory."""
        self.count(held)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = self.run(func, args, kwargs or {})
        self.count(found)
        return found

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """The operation itself."""
        return func(*args, **kwargs)

    def count(self, found: Any) -> None:
        """Take note of tensors, nested as they may be."""
        for tensor in _tensors(found):
            self.enter(tensor, tensor.untyped_storage().nbytes())
        if self.now > self.peak:
            self.peak, self.at_peak = self.now, dict(self.live)
        self.host_peak = max(self.host_peak, self.host)

    def enter(self, tensor: Tensor, size: int) -> None:
        """Count a tensor's storage at so many bytes, unless it is known."""
        storage = tensor.untyped_storage()
        place = storage._cdata
        if place in self._known:
            return
        away, label = tensor.device.type != self.device, self.label
        self._add(size, away, label)

        def leave(_: Any) -> None:
            del self._known[place]
            self._add(-size, away, label)

        self._known[place] = weakref.ref(storage, leave)

    def _add(self, size: int, away: bool, label: str) -> None:
        if away:
            self.host += size
        else:
            self.now += size
            self.live[label] = self.live.get(label, 0) + size


class ShapeMemory(LiveMemory):
    """`LiveMemory` of tensors without values on the meta device, beside small real ones in the host's memory.

    What would be read of a value is 0 or False; a mask is taken to let everything through, which is the most that can
    come of it, and its complement (`~mask`) nothing. A copy to the host is a stand-in that counts its bytes and takes
    none.
    """

    def __init__(self, held: Any = ()) -> None:
        super().__init__(held, device=META)
        self._closed: weakref.WeakSet[Any] = weakref.WeakSet()
        """Storages of complements of masks."""

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        places = {tensor.is_meta for tensor in _tensors((args, kwargs))}
        if True not in places:
            return func(*args, **kwargs)
        if func is aten._local_scalar_dense.default:
            return torch.zeros((), dtype=args[0].dtype).item()
        if func is aten.equal.default:
            return False
        if func is aten.nonzero.default:
            return self._places(args[0])
        if func is aten._to_copy.default and torch.device(kwargs.get("device") or META) != META:
            return self._to_host(args[0], kwargs)
        if func is aten.copy_.default and not args[0].is_meta:
            return args[0]
        if func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
            args = (args[0], self._open_masks(args[1]), *args[2:])
        if False in places:
            args, kwargs = tree_map_only(Tensor, _to_meta, (args, kwargs))
        if isinstance(kwargs.get("device"), torch.device):
            kwargs["device"] = META
        found = remembered(func, args, kwargs)
        if func in NOT and not self._lets_nothing(args[0]):
            self._closed.add(found.untyped_storage())
        return found

    def _lets_nothing(self, mask: Tensor) -> bool:
        return mask.untyped_storage() in self._closed

    def _places(self, mask: Tensor) -> Tensor:
        """Where a mask lets something through, (count, dimensions): anywhere or nowhere."""
        count = 0 if self._lets_nothing(mask) else mask.numel()
        return torch.empty(count, mask.ndim, dtype=torch.long, device=META)

    def _open_masks(self, indices: Any) -> list[Tensor | None]:
        """Indices with each mask in the place of those of all its elements."""
        found: list[Tensor | None] = []
        for each in indices:
            if isinstance(each, Tensor) and each.dtype in (torch.bool, torch.uint8):
                found += self._places(each).unbind(1)
            else:
                found.append(each)
        return found

    def _to_host(self, tensor: Tensor, kwargs: dict[str, Any]) -> Tensor:
        dtype = kwargs.get("dtype") or tensor.dtype
        if tensor.numel() <= 4096:
            return torch.zeros(tensor.shape, dtype=dtype)
        stand_in = torch.zeros(1, dtype=dtype).expand(tensor.shape)
        self.enter(stand_in, tensor.numel() * stand_in.element_size())
        return stand_in


@contextlib.contextmanager
def as_on_a_device() -> Iterator[None]:
    """In the block, what torch does otherwise for tensors without values is as a device would do it.

    Attention is by the fused kernel: torch would choose the plain formula, with its matrix of all tokens by all tokens.
    Autocast, which models use to compute in fp32 what they have made fp32 before, is left out: torch refuses it. A
    function mode would not do: it is off within a backward pass, where checkpointed blocks run again.
    """
    functional: Any = nn.functional
    everything: Any = torch
    own, own_autocast = functional.scaled_dot_product_attention, everything.autocast

    def attention(query: Tensor, *others: Any, **settings: Any) -> Tensor:
        return (_attention if query.is_meta else own)(query, *others, **settings)

    def autocast(device_type: str, *others: Any, **settings: Any) -> Any:
        away = device_type == META.type
        return contextlib.nullcontext() if away else own_autocast(device_type, *others, **settings)

    functional.scaled_dot_product_attention, everything.autocast = attention, autocast
    try:
        yield
    finally:
        functional.scaled_dot_product_attention, everything.autocast = own, own_autocast


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if attn_mask is not None:
        attn_mask = attn_mask.to(query.dtype) if attn_mask.dtype == torch.bool else attn_mask
    found: Tensor = aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale
    )[0]
    return found


def _tensors(found: Any) -> Iterator[Tensor]:
    """The tensors of nested tuples, lists and dicts."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, dict):
        yield from _tensors(tuple(found.values()))
    elif isinstance(found, Iterable) and not isinstance(found, str):
        for each in found:
            yield from _tensors(each)


def _to_meta(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_meta else tensor.to(META)
