"""The processes that train together: what each takes of a batch, what they add up, and how they end together.

Every rank builds the same global batch and the same draws, runs the model on its own rows, and then sees what all have
found: losses, baselines and metrics are those of the whole batch on every rank, and gradients are summed once a step,
as DDP sums them after `no_sync`. So two ranks are one process with the double batch, whatever a step does in between.
Processes, devices and the backend are accelerate's; who launches them (torchrun, accelerate) makes no difference.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from reelign.errors import ReelignError

BUCKET = 1 << 25
"""Elements of gradients that are summed in one message."""
PATIENCE = timedelta(days=7)
"""How long a rank waits while the first one encodes; who ends, ends them all, so that nobody waits in vain."""
AGAIN = "Start the same command again; it goes on from the last checkpoint."
FIRSTS = itertools.count()
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; by default it is alone, and everything here does nothing."""

    index: int = 0
    count: int = 1
    device: torch.device | str = "cpu"
    """Where messages travel from: the rank's own."""

    @property
    def main(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.index == 0

    def rows(self, count: int) -> slice:
        """This rank's part of a global batch."""
        if count % self.count:
            raise ValueError(f"{count} rows cannot be shared evenly by {self.count} ranks")
        own = count // self.count
        return slice(self.index * own, (self.index + 1) * own)

    def share(self, count: int) -> Tensor:
        """Indices of this rank's part of any number of items; the last is repeated until all ranks have equally many.

        After `gather` the first `count` are the items in their order.
        """
        own = -(-count // self.count)
        return torch.arange(self.index * own, (self.index + 1) * own).clamp(max=count - 1)

    def gather(self, tensor: Tensor) -> Tensor:
        """The rows of all ranks, in their order, on each of them; the same shape on all."""
        if self.count == 1:
            return tensor
        own = tensor.detach().to(self.device).contiguous()
        found = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(found, own)
        return torch.cat(found).to(tensor.device)

    def sum(self, value: float) -> float:
        """A number added up over all ranks."""
        return value if self.count == 1 else float(self.gather(torch.tensor([value], dtype=torch.float64)).sum())

    def any(self, *flags: bool) -> list[bool]:
        """Each flag, set where it is on any rank: what all must do together, one cannot decide alone."""
        if self.count == 1:
            return list(flags)
        return self.gather(torch.tensor([flags])).any(dim=0).tolist()

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all ranks; of sharded parameters the backward has left their mean."""
        if self.count == 1:
            return
        trained, bucket = list(parameters), list[Tensor]()
        # One rank's rows may all belong to another expert: it adds nothing, but adds it to the same message.
        for parameter, held in zip(trained, self.any(*(each.grad is not None for each in trained)), strict=True):
            if held and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for gradient in (each.grad for each in trained):
            if isinstance(gradient, DTensor):
                gradient.mul_(self.count)
            if gradient is None or isinstance(gradient, DTensor):
                continue
            bucket.append(gradient)
            if sum(each.numel() for each in bucket) >= BUCKET:
                self._sum(bucket)
                bucket = []
        if bucket:
            self._sum(bucket)

    def _sum(self, bucket: list[Tensor]) -> None:
        whole = torch.cat([each.flatten() for each in bucket]).to(self.device)
        dist.all_reduce(whole)
        for gradient, summed in zip(bucket, whole.split([each.numel() for each in bucket]), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def check_same(self, weights: Mapping[str, Tensor], when: str) -> None:
        """Compare the bits of the weights over all ranks, by their sum; of sharded ones there is nothing to compare.

        Raises:
            ReelignError: they differ.
        """
        names = [name for name, tensor in weights.items() if not isinstance(tensor, DTensor)]
        if self.count == 1 or not names:
            return
        sums = self.gather(torch.stack([bits(weights[name]) for name in names])[None])
        apart = (sums != sums[0]).nonzero()
        if len(apart):
            rank, first = apart[0].tolist()
            raise ReelignError(
                f"The weights of rank {rank} are not those of rank 0 {when}; the first that differs is {names[first]}.",
                "Give all ranks the same model, package versions and kind of device, and start again from a checkpoint "
                "before it.",
            )

    @contextlib.contextmanager
    def first(self) -> Iterator[None]:
        """The main rank runs the block before the others do: it encodes and writes, they find everything there.

        Where it fails the others fail with it.
        """
        if self.count == 1:
            yield
            return
        store, key = default_store(), f"reelign/first/{next(FIRSTS)}"
        if not self.main:
            store.wait([key], PATIENCE)
            if store.get(key) != b"done":
                raise ReelignError("The first rank could not prepare the run.", AGAIN)
            yield
            return
        outcome = "failed"
        try:
            yield
            outcome = "done"
        finally:
            store.set(key, outcome)


ALONE = Ranks()


def default_store() -> Any:
    """The key-value store through which the ranks found each other; it needs no rank to be in step with another."""
    return dist.distributed_c10d._get_default_store()


def bits(tensor: Tensor) -> Tensor:
    """The sum of a tensor's bit patterns, int64: what differs in it differs here but by an unlikely chance."""
    whole = tensor.detach().contiguous()
    return whole.view(BITS[whole.element_size()]).sum(dtype=torch.int64)
