"""Condition dropout: some captions are replaced by the empty prompt, so that guidance's other half trains too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.generators.base import Conditioning
from reelign.training import PairBatch, Stream, VideoBatch

BatchT = TypeVar("BatchT", bound=PairBatch | VideoBatch)


class EmptyPrompts(Generic[BatchT]):
    """A stream of which some rows have lost their caption; the two sides of a pair lose it together.

    Args:
        stream: its batches keep all else, and it keeps the cursor.
        empty: one row, the empty prompt's.
        lost: (rows,) bool of a batch: who loses. It must depend on the batch alone, so that a resumed run agrees.
    """

    def __init__(self, stream: Stream[BatchT], empty: Conditioning, lost: Callable[[BatchT], Tensor]) -> None:
        self.stream = stream
        self.empty = empty
        self.lost = lost

    def next_batch(self) -> BatchT:
        batch = self.stream.next_batch()
        return replace(batch, conditioning=_emptied(batch.conditioning, self.lost(batch), self.empty))

    def state_dict(self) -> dict[str, Any]:
        return self.stream.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.stream.load_state_dict(state)


def lost_by_seed(share: float) -> Callable[[PairBatch | VideoBatch], Tensor]:
    """Each row loses its caption with this chance, drawn from the batch's own seed."""

    def lost(batch: PairBatch | VideoBatch) -> Tensor:
        chance = generator_from(batch.seed, "empty prompt")
        return torch.rand(len(batch.latents), generator=chance) < share

    return lost


def _emptied(conditioning: Conditioning, lost: Tensor, empty: Conditioning) -> Conditioning:
    found = {}
    for name, tensor in conditioning.tensors.items():
        if name not in empty.tensors:  # of an image, which stays
            found[name] = tensor
            continue
        which = lost.to(tensor.device).reshape(-1, *([1] * (tensor.ndim - 1)))
        found[name] = torch.where(which, empty[name], tensor)
    return Conditioning(found)
