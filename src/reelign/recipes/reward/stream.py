"""Batches of labelled pairs, in which every video stands once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.recipes.reward.clips import ClipStore
from reelign.recipes.reward.data import RewardData
from reelign.rewards.qwen_vision import Patches


@dataclass(frozen=True, kw_only=True)
class RewardBatch:
    """P pairs of U videos."""

    seen: tuple[Patches, ...]
    """U"""
    prompts: tuple[str, ...]
    """U"""
    pairs: Tensor
    """(P, 2) int64, places in `seen`."""
    labels: Tensor
    """(P, D) float32, as `RewardData.labels`."""
    gaps: Tensor
    """(P, D) float32, as `RewardData.gaps()`."""
    scores: Tensor
    """(U, D) float32, as `RewardData.scores`."""
    names: tuple[str, ...] = ()
    """Of the pairs, for messages."""

    def rows(self, start: int, stop: int) -> RewardBatch:
        """Some of its pairs, with the videos that these need."""
        pairs = self.pairs[start:stop]
        used, places = pairs.unique(return_inverse=True)
        own = used.tolist()
        return RewardBatch(
            seen=tuple(self.seen[each] for each in own),
            prompts=tuple(self.prompts[each] for each in own),
            pairs=places,
            labels=self.labels[start:stop],
            gaps=self.gaps[start:stop],
            scores=self.scores[used],
            names=self.names[start:stop],
        )


class RewardStream:
    """Endless epochs over labelled pairs; the order of an epoch follows from (seed, epoch) alone.

    Args:
        data: the pairs.
        store: reads their videos; those of the next batch are asked for while this one is worked on.
        batch_size: pairs; the last batch of an epoch takes its missing ones from the next.
        seed: of the order.
        mixing: `groups` shuffles the prompts and then the pairs of each, so that a video's pairs follow one another;
            `pairs` shuffles all pairs.
    """

    def __init__(
        self, data: RewardData, store: ClipStore, *, batch_size: int, seed: int, mixing: Literal["groups", "pairs"]
    ) -> None:
        self.data = data
        self.store = store
        self.batch_size = batch_size
        self.seed = seed
        self.mixing = mixing
        self.step = 0
        self.gaps = data.gaps()
        names: dict[str, int] = {}
        self._groups = torch.tensor([names.setdefault(prompt, len(names)) for prompt in data.prompts])
        self._orders: dict[int, Tensor] = {}

    def next_batch(self) -> RewardBatch:
        rows = self._rows(self.step)
        videos, places = self.data.pairs[rows].unique(return_inverse=True)
        clips = [self.data.clips[each] for each in videos.tolist()]
        seen = self.store.take([clip.path for clip in clips])
        self.step += 1
        self.store.ahead(
            self.data.clips[each].path for each in self.data.pairs[self._rows(self.step)].unique().tolist()
        )
        return RewardBatch(
            seen=tuple(seen),
            prompts=tuple(clip.prompt for clip in clips),
            pairs=places,
            labels=self.data.labels[rows],
            gaps=self.gaps[rows],
            scores=self.data.scores[videos],
            names=tuple(f"{clips[a].name} and {clips[b].name}" for a, b in places.tolist()),
        )

    def _rows(self, step: int) -> Tensor:
        """The pairs of a step."""
        positions = range(step * self.batch_size, (step + 1) * self.batch_size)
        found = [self._order(position // len(self.data))[position % len(self.data)] for position in positions]
        return torch.stack(found)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            chance = generator_from(self.seed, "reward epoch", epoch)
            order = torch.randperm(len(self.data), generator=chance)
            if self.mixing == "groups":
                place = torch.randperm(int(self._groups.max()) + 1, generator=chance)
                order = order[place[self._groups[order]].argsort(stable=True)]
            self._orders = {kept: each for kept, each in self._orders.items() if kept >= epoch - 1} | {epoch: order}
        return self._orders[epoch]

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
