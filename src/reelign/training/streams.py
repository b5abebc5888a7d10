"""Streams of batches: what training eats, with a cursor that a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.generators.base import Conditioning

B_co = TypeVar("B_co", covariant=True)


class Stream(Protocol[B_co]):
    """An endless source of batches."""

    def next_batch(self) -> B_co: ...

    def state_dict(self) -> dict[str, Any]:
        """JSON-able cursor."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class PairBatch:
    """Pairs of one training step.

    `latents` is (pairs, 2, C, F, H, W) with column 0 chosen and column 1 rejected, `conditioning` has one row a pair,
    and `seed` is the seed of this batch's draws.
    """

    latents: Tensor
    conditioning: Conditioning
    seed: int
    names: tuple[str, ...] = ()
    """What a person would call each pair, for messages."""
    values: Tensor | None = None
    """(pairs,) how much each counts, mean 1 over the data; None is all alike."""


@dataclass(frozen=True)
class VideoBatch:
    """Single videos of one training step: `latents` (videos, C, F, H, W)."""

    latents: Tensor
    conditioning: Conditioning
    seed: int
    names: tuple[str, ...] = ()
    """What a person would call each video, for messages."""
    values: Tensor | None = None
    """(videos,) what the objective knows of each: its weight (RWR), or whether it is desirable (KTO)."""


@dataclass(frozen=True)
class SharedLatents:
    """Latents of samples that have clips in common, as the pairs of a group do: every clip is held once.

    It is indexed as the tensor of all samples, and gives that tensor's values.
    """

    clips: Tensor
    """(clips, C, F, H, W)"""
    index: Tensor
    """(N,) the clip of each sample; (N, 2) of pairs."""

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Any) -> Tensor:
        return self.clips[self.index[rows]]

    @property
    def shape(self) -> torch.Size:
        return torch.Size((*self.index.shape, *self.clips.shape[1:]))

    def side(self, column: int) -> SharedLatents:
        """Of pairs, the chosen (0) or the rejected (1) ones."""
        return SharedLatents(self.clips, self.index[:, column])

    def swapped(self) -> SharedLatents:
        """Of pairs, chosen and rejected exchanged."""
        return SharedLatents(self.clips, self.index.flip(1))


BatchT = TypeVar("BatchT")


class ShuffledStream(Generic[BatchT]):
    """Endless shuffled epochs over latents held in memory.

    Every epoch is a permutation that depends on (seed, epoch) alone, so the cursor is one number and a resumed run
    sees the very batches of an undisturbed one.

    Args:
        make_batch: PairBatch for latents (N, 2, C, F, H, W), VideoBatch for (N, C, F, H, W); called with latents,
            conditioning and seed, and with `names` and `values` where there are any.
        latents: all samples.
        conditioning: one row per distinct prompt.
        prompt_index: (N,) row of each sample.
        batch_size: samples per step; more than there are means each step sees some twice.
        seed: of the order and of the draws.
        names: of the samples, for messages; batches carry theirs.
        values: (N,) a number per sample, such as its weight or label; batches carry theirs.
    """

    def __init__(
        self,
        make_batch: Callable[..., BatchT],
        latents: Tensor | SharedLatents,
        conditioning: Conditioning,
        prompt_index: Tensor,
        *,
        batch_size: int,
        seed: int,
        names: Sequence[str] | None = None,
        values: Tensor | None = None,
    ) -> None:
        if len(latents) == 0:
            raise ReelignError(
                "There is nothing to train on.", "Judge more candidates, or check why pairs were left out."
            )
        self.make_batch = make_batch
        self.latents = latents
        self.conditioning = conditioning
        self.prompt_index = prompt_index
        self.batch_size = batch_size
        self.seed = seed
        self.names = names
        self.values = values
        self.step = 0
        self._last: dict[int, tuple[int, Tensor]] = {}

    def next_batch(self) -> BatchT:
        positions = range(self.step * self.batch_size, (self.step + 1) * self.batch_size)
        rows = torch.stack([self._row(position) for position in positions])
        batch = self.make_batch(
            self.latents[rows],
            self.conditioning.take(self.prompt_index[rows]),
            generator_from(self.seed, "draws", self.step).initial_seed(),
            **self._extras(rows),
        )
        self.step += 1
        return batch

    def _extras(self, rows: Tensor) -> dict[str, Any]:
        extras: dict[str, Any] = {}
        if self.names is not None:
            extras["names"] = tuple(self.names[row] for row in rows.tolist())
        if self.values is not None:
            extras["values"] = self.values[rows]
        return extras

    def _row(self, position: int) -> Tensor:
        epoch, place = divmod(position, len(self.latents))
        return self._order(epoch, len(self.latents))[place]

    def _order(self, epoch: int, count: int, *kind: int) -> Tensor:
        """The order of an epoch over `count` rows, of one kind where there are several.

        The last one is kept, since a batch asks for every row by itself.
        """
        own = kind[0] if kind else 0
        if own not in self._last or self._last[own][0] != epoch:
            chance = generator_from(self.seed, "epoch", epoch, *kind)
            self._last[own] = (epoch, torch.randperm(count, generator=chance))
        return self._last[own][1]

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
