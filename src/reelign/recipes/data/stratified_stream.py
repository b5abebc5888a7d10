"""Batches of labelled videos that always hold both kinds."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from reelign.training import ShuffledStream, VideoBatch


class StratifiedStream(ShuffledStream[VideoBatch]):
    """Shuffled epochs of desirable and of undesirable videos, drawn from side by side.

    KTO's baseline is a mean over the batch: of one kind alone it would take away most of its signal. So every batch
    holds the two in the proportion of the data, rounded, and at least one of each; where a kind is rarer than one a
    batch its videos come more often than the others.

    Args:
        batch_size: at least 2.
        first_kind: (N,) bool, which videos are of the one kind and not of the other; both are there.
    """

    def __init__(self, *data: Any, batch_size: int, first_kind: Tensor, **options: Any) -> None:
        super().__init__(VideoBatch, *data, batch_size=batch_size, **options)
        if batch_size < 2:
            raise ValueError(f"a batch of {batch_size} cannot hold both kinds")
        self.kinds = [first_kind.nonzero()[:, 0], (~first_kind).nonzero()[:, 0]]
        wanted, known = batch_size * len(self.kinds[0]), len(first_kind)
        # Videos of the first kind per batch, as a fraction that loses none over the batches.
        self.share = (1, 1) if wanted < known else (wanted, known)
        if wanted > (batch_size - 1) * known:
            self.share = (batch_size - 1, 1)

    def _row(self, position: int) -> Tensor:
        step, place = divmod(position, self.batch_size)
        before = self._before(step)
        count = self._before(step + 1) - before
        # Spread over the batch, so that micro-batches and ranks see both kinds too.
        taken = place * count // self.batch_size
        if (place + 1) * count // self.batch_size > taken:
            return self._nth(0, before + taken)
        return self._nth(1, step * self.batch_size - before + place - taken)

    def _before(self, step: int) -> int:
        """How many videos of the first kind come before a step."""
        return step * self.share[0] // self.share[1]

    def _nth(self, kind: int, number: int) -> Tensor:
        """The n-th video of a kind over all epochs."""
        own = self.kinds[kind]
        epoch, place = divmod(number, len(own))
        return own[self._order(epoch, len(own), kind)[place]]
