"""From judged candidates to the samples of an objective: pairs, labelled videos, weighted ones, or the best alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.generators.base import Conditioning
from reelign.objectives import DPO, KTO, RWR, SFT
from reelign.recipes.generation import write_tensors
from reelign.recipes.online.selection import Selected, totals
from reelign.recipes.settings import Objective
from reelign.training import PairBatch, VideoBatch


@dataclass(frozen=True)
class Picks:
    """Which candidates of each group are trained on, and what is known of each."""

    places: Tensor
    """(groups, K) places in the group, K the same for all; -1 where there is none."""
    values: Tensor | None
    """(groups, K) what the objective wants to know: KTO's labels, RWR's weights."""
    sides: int
    """Of a sample: 2 where chosen and rejected follow each other."""


def picks(
    objective: Objective,
    found: Sequence[Selected],
    scores: Mapping[str, Tensor],
    weights: Mapping[str, float],
    *,
    top: int,
    swap: bool = False,
    seed: int = 0,
) -> Picks:
    """What the objective trains on.

    DPO takes the selected pairs, KTO their videos as desirable and undesirable, SFT one side of them (or as many
    candidates drawn at random, its control); RWR takes all scored candidates of a group that has a preference, weighted
    by the softmax of their weighted sums.

    Args:
        found: of each group.
        scores, weights: as for `select`.
        top: pairs of a group, at most.
        swap: chosen and rejected exchanged.
        seed: of the candidates drawn at random.
    """
    if isinstance(objective, RWR):
        return _weighed(objective, found, totals(scores, weights), -1.0 if swap else 1.0)
    pairs = torch.full((len(found), top, 2), -1)
    for group, each in enumerate(found):
        for number, pair in enumerate(each.pairs):
            pairs[group, number] = torch.tensor(pair[::-1] if swap else pair)
    if isinstance(objective, SFT) and objective.on == "random":
        return Picks(_random(found, totals(scores, weights), top, seed), None, 1)
    if isinstance(objective, SFT):
        return Picks(pairs[:, :, 0 if objective.on == "chosen" else 1], None, 1)
    labels = torch.tensor([True, False]).expand_as(pairs).flatten(1) if isinstance(objective, KTO) else None
    return Picks(pairs.flatten(1), labels, 2 if isinstance(objective, DPO) else 1)


def _weighed(objective: RWR, found: Sequence[Selected], total: Tensor, sign: float) -> Picks:
    places, values = torch.full(total.shape, -1), torch.zeros(total.shape)
    for group, each in enumerate(found):
        if each.pairs:
            scored = total[group].isfinite().nonzero()[:, 0]
            places[group, : len(scored)] = scored
            values[group, : len(scored)] = objective.weights(sign * total[group, scored][None])[0].float()
    return Picks(places, values, 1)


def _random(found: Sequence[Selected], total: Tensor, top: int, seed: int) -> Tensor:
    places = torch.full((len(found), top), -1)
    for group, each in enumerate(found):
        scored = total[group].isfinite().nonzero()[:, 0]
        drawn = scored[torch.randperm(len(scored), generator=generator_from(seed, group))][: len(each.pairs)]
        places[group, : len(drawn)] = drawn
    return places


@dataclass(frozen=True)
class Samples:
    """Samples that wait to be trained on."""

    latents: Tensor
    """(N, 2, C, F, H, W) of pairs, else (N, C, F, H, W)."""
    rows: Tensor
    """(N,) of each one's text conditioning."""
    made_at: Tensor
    """(N,) optimiser steps that the policy had taken when it made them."""
    values: Tensor | None = None
    """(N,)"""
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, rows: slice) -> Samples:
        values = None if self.values is None else self.values[rows]
        return Samples(self.latents[rows], self.rows[rows], self.made_at[rows], values, self.names[rows])

    def and_then(self, other: Samples) -> Samples:
        values = None
        if self.values is not None and other.values is not None:
            values = torch.cat([self.values, other.values])
        return Samples(
            torch.cat([self.latents, other.latents.to(self.latents.device)]),
            torch.cat([self.rows, other.rows]),
            torch.cat([self.made_at, other.made_at]),
            values,
            self.names + other.names,
        )

    def batch(self, conditioning: Conditioning, seed: int) -> PairBatch | VideoBatch:
        """As a step takes them; `seed` is that of its draws."""
        make: Any = PairBatch if self.latents.ndim == 6 else VideoBatch
        found: PairBatch | VideoBatch = make(
            self.latents, conditioning.take(self.rows), seed, names=self.names, values=self.values
        )
        return found

    def tensors(self) -> dict[str, Tensor]:
        """For a file."""
        found = {"latents": self.latents, "rows": self.rows, "made_at": self.made_at}
        found |= {} if self.values is None else {"values": self.values}
        return {name: tensor.cpu().contiguous() for name, tensor in found.items()}


def write_samples(file: Path, samples: Samples, *, keep: int) -> None:
    """Write samples, whole or not at all, and drop all but the newest `keep` files of that name; names stay outside."""
    write_tensors(file, samples.tensors())
    name = file.name.partition("-")[0]
    for old in sorted(file.parent.glob(f"{name}-*.safetensors"))[:-keep]:
        old.unlink()


def read_samples(file: Path, names: Sequence[str], device: torch.device) -> Samples:
    """What `write_samples` wrote, and the samples' names.

    Raises:
        ReelignError: the file is gone or damaged.
    """
    try:
        found = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ReelignError(
            f"The samples that the last checkpoint goes on with cannot be read: {file}: {error}",
            "Put the file back, or remove the newest checkpoint; the run goes on from the one before.",
        ) from error
    return Samples(found["latents"].to(device), found["rows"], found["made_at"], found.get("values"), tuple(names))
