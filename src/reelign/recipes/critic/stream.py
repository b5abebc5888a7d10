"""Batches of lessons for a critic, with what is seen of their videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from reelign.critics.frames import Shown
from reelign.diffusion.seeds import generator_from
from reelign.recipes.critic.data import CriticData
from reelign.recipes.critic.lessons import Example, Lesson
from reelign.recipes.reward.clips import VideoStore


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """An example, what is seen of its videos, and one of its reasons."""

    example: Example
    seen: tuple[Shown, ...]
    reason: str
    """'' where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CriticBatch:
    """The examples of some lessons, both orders of a pair behind each other."""

    asked: tuple[Asked, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the lessons, for messages."""
        return tuple(dict.fromkeys(each.example.name for each in self.asked))


class CriticStream:
    """Endless epochs over lessons; the order of an epoch follows from (seed, epoch) alone.

    Args:
        data: the lessons.
        store: reads their videos; those of the next batch are asked for while this one is worked on.
        batch_size: lessons; the last batch of an epoch takes its missing ones from the next.
        seed: of the order.
    """

    def __init__(self, data: CriticData, store: VideoStore[Shown], *, batch_size: int, seed: int) -> None:
        self.data = data
        self.store = store
        self.batch_size = batch_size
        self.seed = seed
        self.step = 0

    def next_batch(self) -> CriticBatch:
        rows = self._rows(self.step)
        batch = batch_of([self.data.lessons[row] for row, _ in rows], self.store, [epoch for _, epoch in rows])
        self.step += 1
        self.store.ahead(path for row, _ in self._rows(self.step) for path in self.data.lessons[row].videos)
        return batch

    def _rows(self, step: int) -> list[tuple[int, int]]:
        """The lessons of a step, each with its epoch."""
        count = len(self.data)
        positions = range(step * self.batch_size, (step + 1) * self.batch_size)
        orders = {epoch: self._order(epoch) for epoch in {position // count for position in positions}}
        return [(orders[position // count][position % count], position // count) for position in positions]

    def _order(self, epoch: int) -> list[int]:
        order: list[int] = torch.randperm(
            len(self.data), generator=generator_from(self.seed, "critic epoch", epoch)
        ).tolist()
        return order

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]


def batch_of(lessons: list[Lesson], store: VideoStore[Shown], epochs: list[int]) -> CriticBatch:
    """Lessons with their videos read; of several reasons the epoch's takes its turn."""
    paths = list(dict.fromkeys(path for lesson in lessons for path in lesson.videos))
    seen = dict(zip(paths, store.take(paths), strict=True))
    asked = []
    for lesson, epoch in zip(lessons, epochs, strict=True):
        for example in lesson.examples:
            reason = example.reasons[epoch % len(example.reasons)] if example.reasons else ""
            asked.append(Asked(example=example, seen=tuple(seen[path] for path in example.videos), reason=reason))
    return CriticBatch(asked=tuple(asked))
