"""Videos of several sizes and lengths in one run: every batch holds one size, and steps visit the sizes in turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from reelign.diffusion.seeds import generator_from
from reelign.training import Policy, Stateful, Step, Stream


@dataclass(frozen=True)
class Bucketed:
    """A batch and the number of the bucket that it came from."""

    batch: Any
    bucket: int

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(getattr(self.batch, "names", ()))


class BucketedStream:
    """Several streams in turn: an epoch visits each as often as it has batches, in an order of the epoch's own.

    Args:
        streams: one for each size.
        samples: how many samples each has.
        batch_size: of all of them.
        seed: of the order.
    """

    def __init__(self, streams: Sequence[Stream[Any]], samples: Sequence[int], *, batch_size: int, seed: int) -> None:
        self.streams = list(streams)
        self.turns = [bucket for bucket, count in enumerate(samples) for _ in range(math.ceil(count / batch_size))]
        self.seed = seed
        self.step = 0

    def next_batch(self) -> Bucketed:
        epoch, place = divmod(self.step, len(self.turns))
        order = torch.randperm(len(self.turns), generator=generator_from(self.seed, "buckets", epoch))
        bucket = self.turns[order[place]]
        self.step += 1
        return Bucketed(self.streams[bucket].next_batch(), bucket)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "streams": [stream.state_dict() for stream in self.streams]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        for stream, own in zip(self.streams, state["streams"], strict=True):
            stream.load_state_dict(own)


class BucketedStep:
    """The step of the bucket that a batch came from: what follows from a video's size, such as β, is each one's own."""

    def __init__(self, steps: Sequence[Step[Any]]) -> None:
        self.steps = list(steps)

    def accumulate_gradients(self, policy: Policy, batch: Bucketed) -> dict[str, float]:
        return self.steps[batch.bucket].accumulate_gradients(policy, batch.batch)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": [step.state_dict() if isinstance(step, Stateful) else {} for step in self.steps]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for step, own in zip(self.steps, state["steps"], strict=True):
            if isinstance(step, Stateful):
                step.load_state_dict(own)
