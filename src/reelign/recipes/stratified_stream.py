"""Batches of labelled videos that always hold both kinds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.training import ShuffledStream, VideoBatch


class StratifiedStream(ShuffledStream[VideoBatch]):
    """Shuffled epochs of desirable and of undesirable videos, drawn from side by side.

    KTO's baseline is a mean over the batch: of one kind alone it would take away most of its signal. So every batch
    holds the two in the proportion of the data, rounded, and at least one of each; where a kind is rarer than one a
    batch its videos come more often than the others.

    Args:
        batch_size: at least 2.
        values: (N,) bool, True is desirable; both kinds are there.
    """

    def __init__(self, *data: Any, batch_size: int, values: Tensor, **options: Any) -> None:
        super().__init__(VideoBatch, *data, batch_size=batch_size, values=values, **options)
        if batch_size < 2:
            raise ValueError(f"a batch of {batch_size} cannot hold both kinds")
        self.kinds = [values.nonzero()[:, 0], (~values).nonzero()[:, 0]]
        wanted, known = batch_size * len(self.kinds[0]), len(values)
        # Desirable videos per batch, as a fraction that never loses any: 0 < wanted / known < batch_size.
        self.share = (1, 1) if wanted < known else (wanted, known)
        if wanted > (batch_size - 1) * known:
            self.share = (batch_size - 1, 1)

    def _row(self, position: int) -> Tensor:
        step, place = divmod(position, self.batch_size)
        before = self._desirable(step)
        count = self._desirable(step + 1) - before
        # Spread over the batch, so that micro-batches and ranks see both kinds too.
        taken = place * count // self.batch_size
        if (place + 1) * count // self.batch_size > taken:
            return self._nth(0, before + taken)
        return self._nth(1, step * self.batch_size - before + place - taken)

    def _desirable(self, step: int) -> int:
        """How many desirable videos come before a step."""
        return step * self.share[0] // self.share[1]

    def _nth(self, kind: int, number: int) -> Tensor:
        """The n-th video of a kind over all epochs."""
        own = self.kinds[kind]
        epoch, place = divmod(number, len(own))
        order = torch.randperm(len(own), generator=generator_from(self.seed, "epoch", epoch, kind))
        return own[order[place]]
