"""Reference errors paid once: every pair has a few draws of its own, visited in turn, and their errors are kept.

The reference never moves, so at a draw that is seen again its two errors are two known numbers, and the step's two
forwards without gradients are spared. A draw is a function of the pair's content and the number of its slot: later
epochs, runs with another β or learning rate, and restarts all meet the same ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from, seed_from
from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.generators.base import Conditioning, Generator
from reelign.recipes.settings import AlignSettings
from reelign.recipes.steps.draws import draw_for
from reelign.records import content_key
from reelign.training import Draw, PairBatch, Policy, SharedLatents, ShuffledStream, velocity_errors

Visit = tuple[int, int]
"""A pair's row in the data and the slot it is visited at."""


@dataclass(frozen=True)
class SlottedBatch(PairBatch):
    """Pairs with the slots at which they are visited."""

    visits: tuple[Visit, ...] = ()


class SlottedStream(ShuffledStream[SlottedBatch]):
    """Shuffled epochs in which epoch e visits every pair at slot e modulo `slots`."""

    def __init__(self, *data: Any, slots: int, **options: Any) -> None:
        super().__init__(SlottedBatch, *data, **options)
        self.slots = slots

    def _extras(self, rows: Tensor) -> dict[str, Any]:
        first = self.step * self.batch_size
        slots = ((first + place) // len(self.latents) % self.slots for place in range(len(rows)))
        return {**super()._extras(rows), "visits": tuple(zip(rows.tolist(), slots, strict=True))}


class ReferenceCache:
    """The reference's errors of pairs at their slots, on disk as they are made.

    Args:
        folder: of caches; each model, precision and draw settings have a file of their own.
        generator: the reference.
        settings: noise levels, shift, sigma range and seed decide the draws.
        latents: (pairs, 2, C, F, H, W); with the prompt they are what a pair is known by.
        conditioning: a row per pair.
        reference: the key of the weights that the policy starts from, where these are its reference; empty: the base.
    Raises:
        ReelignError: the file was made by another model or with other draws.
    """

    def __init__(
        self,
        folder: Path,
        generator: Generator,
        settings: AlignSettings,
        latents: Tensor | SharedLatents,
        conditioning: Conditioning,
        *,
        reference: str = "",
    ) -> None:
        self.generator = generator
        self.settings = settings
        self.pairs = [_pair_key(latents[row], conditioning, row) for row in range(len(latents))]
        denoisers: dict[str, Any] = dict(generator.denoisers)
        made_by: dict[str, Any] = {
            "model": generator.identity,
            # The model's own, not a parameter's: some stay fp32 in whatever precision a model is loaded.
            "dtypes": [str(each.dtype) for each in denoisers.values()],
            "draws": [settings.noise_levels, settings.shift, list(settings.sigma_range), settings.seed],
        }
        if settings.experts:
            made_by["experts"] = list(settings.experts)
        if settings.empty_prompt_share:
            made_by["empty_prompt_share"] = settings.empty_prompt_share
        if reference:
            made_by["reference"] = reference
        self.path = folder / f"{content_key(made_by)}.jsonl"
        self.errors = _read(self.path, made_by)

    def draw(self, visits: Sequence[Visit], shape: Sequence[int]) -> Draw:
        """The draws of these visits, for latents of `shape` (C, F, H, W)."""
        seeds = [seed_from(self.settings.seed, self.pairs[row], slot) for row, slot in visits]
        draws = [draw_for((1, *shape), self.settings, self.generator, seed) for seed in seeds]
        return Draw(torch.cat([draw.sigma for draw in draws]), torch.cat([draw.noise for draw in draws]))

    def lost(self, visits: Sequence[Visit]) -> Tensor:
        """(pairs,) bool, which of these visits are under the empty prompt: always the same ones, as their draws are."""
        seeds = [seed_from(self.settings.seed, self.pairs[row], slot, "empty prompt") for row, slot in visits]
        chances = torch.cat([torch.rand(1, generator=generator_from(seed)) for seed in seeds])
        return chances < self.settings.empty_prompt_share

    def reference(
        self, policy: Policy, visits: Sequence[Visit], latents: Tensor, conditioning: Conditioning, draw: Draw
    ) -> tuple[Tensor, Tensor]:
        """Reference errors (pairs, 2) at the draws of these visits, and (pairs,) which had to be asked for.

        Args:
            latents: (pairs, 2, C, F, H, W).
            conditioning, draw: a row per pair.
        """
        keys = [f"{self.pairs[row]}/{slot}" for row, slot in visits]
        asked = torch.tensor([key not in self.errors for key in keys])
        needed = asked.nonzero()[:, 0]
        if policy.sharded and policy.ranks.any(bool(len(needed)))[0]:
            # Split weights are brought together for all ranks or for none: those that know ask for one all the same.
            needed = needed if len(needed) else torch.zeros(1, dtype=torch.long)
        if len(needed):
            rows = needed
            both = conditioning.take(rows.repeat_interleave(2))
            at = rows.to(draw.sigma.device)
            own = Draw(draw.sigma[at], draw.noise[at]).repeat(2)
            found = velocity_errors(policy, latents[at].flatten(0, 1), both, own, weights=("reference",))["reference"]
            for place, errors in zip(needed.tolist(), found.unflatten(0, (-1, 2)).tolist(), strict=True):
                self.errors.setdefault(keys[place], errors)
        known = torch.tensor([self.errors[key] for key in keys], dtype=torch.float32, device=latents.device)
        return known, asked

    def keep(self, visits: Sequence[Visit], errors: Tensor, asked: Tensor, *, write: bool = True) -> None:
        """Remember the errors (pairs, 2) of a whole batch that were asked for, on whichever rank.

        Args:
            visits: of the batch.
            errors: of the reference, at them.
            asked: (pairs,) bool.
            write: also on disk.
        """
        found = zip(visits, errors.tolist(), asked.tolist(), strict=True)
        made = {f"{self.pairs[row]}/{slot}": error for (row, slot), error, new in found if new}
        if made and write:
            with self.path.open("a") as file:
                file.write("".join(f"{json.dumps({key: value})}\n" for key, value in made.items()))
        self.errors.update(made)


def _pair_key(latents: Tensor, conditioning: Conditioning, row: int) -> str:
    digest = hashlib.sha256(latents.float().contiguous().numpy().tobytes())
    for name in sorted(conditioning.tensors):
        digest.update(conditioning[name][row].float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:20]


def _read(path: Path, made_by: dict[str, Any]) -> dict[str, Sequence[float]]:
    """What a file holds; half a last line, left by a kill, is cut off."""
    if not path.exists():
        write_text(path, json.dumps(made_by) + "\n")
        return {}
    text = path.read_text()
    head, *lines = text.splitlines()
    if json.loads(head) != made_by:
        raise ReelignError(
            f"The reference errors in {path} were made by {head}, and this is {json.dumps(made_by)}.",
            "Remove that file; they will be made again.",
        )
    if not text.endswith("\n"):
        lines = lines[:-1]
        write_text(path, "".join(f"{line}\n" for line in (head, *lines)))
    found: dict[str, Sequence[float]] = {}
    for line in lines:
        found.update(json.loads(line))
    return found
