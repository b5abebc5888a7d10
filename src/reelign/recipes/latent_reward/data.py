"""Labelled pairs as noisy latents, both sides of a pair at the same noise and sigma."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from reelign.diffusion.flow import add_noise
from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator
from reelign.objectives.ranking import MISSING
from reelign.recipes.data.clips import Clip, load_latents
from reelign.recipes.latent_reward.batch import LatentBatch
from reelign.recipes.latent_reward.prompts import OtherPrompts
from reelign.recipes.latent_reward.settings import LatentRewardSettings
from reelign.recipes.reward.data import RewardData
from reelign.records import Workspace
from reelign.training import Draw, SharedLatents, ShuffledStream, make_draw
from reelign.training.caches import cached_prompts
from reelign.training.monitors import QUARTERS

Levels = Callable[[torch.Size, int], Draw]
"""(shape (P, C, F, H, W), seed) -> a draw for each of P pairs."""


@dataclass(frozen=True, kw_only=True)
class LatentPairs:
    """Labelled pairs with their latents in memory."""

    data: RewardData
    latents: Tensor
    """(V, C, F, H, W) of all videos."""
    conditioning: Conditioning
    """A row a prompt."""
    rows: Tensor
    """(V,) the row of each video's prompt."""
    others: OtherPrompts | None = None
    """What batches of a stream hold beside the pairs."""

    def __len__(self) -> int:
        return len(self.data)

    def only(self, data: RewardData) -> LatentPairs:
        """The same videos with other pairs of them."""
        return replace(self, data=data)

    def with_others(self, others: OtherPrompts) -> LatentPairs:
        """The same, with such videos in the batches of a stream.

        Raises:
            ReelignError: there is one prompt alone.
        """
        if len(self.conditioning) < 2:
            raise ReelignError(
                "All pairs are of one prompt, and other_prompts shows videos under another.",
                "Judge videos of more prompts, or set other_prompts=0.",
            )
        return replace(self, others=others)

    def stream(self, levels: Levels, *, batch_size: int, seed: int) -> ShuffledStream[LatentBatch]:
        """Endless shuffled epochs; a batch's draws follow from its seed."""
        return ShuffledStream(
            partial(self._batch, levels),
            SharedLatents(self.latents, self.data.pairs),
            self.conditioning,
            self.rows[self.data.pairs[:, 0]],
            batch_size=batch_size,
            seed=seed,
            names=[f"{self.data.clips[a].name} and {self.data.clips[b].name}" for a, b in self.data.pairs.tolist()],
            values=torch.arange(len(self.data)),
        )

    def batch(self, rows: Tensor, draw: Draw) -> LatentBatch:
        """The pairs at `rows`, each at its own draw."""
        latents = self.latents[self.data.pairs[rows]]
        return self._assembled(latents, self.conditioning.take(self.rows[self.data.pairs[rows, 0]]), rows, draw, ())

    def _batch(
        self,
        levels: Levels,
        latents: Tensor,
        conditioning: Conditioning,
        seed: int,
        names: Sequence[str],
        values: Tensor,
    ) -> LatentBatch:
        batch = self._assembled(latents, conditioning, values, levels(latents[:, 0].shape, seed), tuple(names))
        if self.others is None or not (count := self.others.count(len(values))):
            return batch
        # A batch is shuffled: its first pairs are any.
        places = self.data.pairs[values[:count]].gather(1, self.others.sides(self.data, values[:count]))[:, 0]
        own = self.rows[places]
        chance = generator_from(seed, "other prompts")
        other = self.others.choose(own, self.conditioning, chance)
        draw = levels(self.latents[places].shape, chance.initial_seed())
        names = [self.data.clips[place].name for place in places.tolist()]
        told = self.conditioning.take(torch.stack([own, other], dim=1).flatten())
        scores = self.data.scores[places]
        return batch.beside(self.others.batch(self.latents[places], told, draw, scores, self.data.dimensions, names))

    def _assembled(
        self, latents: Tensor, conditioning: Conditioning, rows: Tensor, draw: Draw, names: tuple[str, ...]
    ) -> LatentBatch:
        both, pairs = draw.repeat(2), self.data.pairs[rows]
        scores = self.data.scores[pairs]
        # A video that stands beside itself, to be scored alone, is scored once.
        alone = (pairs[:, 0] == pairs[:, 1])[:, None]
        scores = torch.stack([scores[:, 0], torch.where(alone, MISSING, scores[:, 1])], dim=1)
        return LatentBatch(
            noisy=add_noise(latents.flatten(0, 1), both.noise, both.sigma),
            sigma=both.sigma,
            conditioning=conditioning.take(torch.arange(len(rows)).repeat_interleave(2)),
            pairs=torch.arange(2 * len(rows)).unflatten(0, (-1, 2)),
            labels=self.data.labels[rows],
            gaps=self.data.gaps()[rows],
            scores=scores.flatten(0, 1),
            names=names,
        )


def load_pairs(data: RewardData, generator: Generator, cache: Path, workspace: Workspace | None = None) -> LatentPairs:
    """The pairs with the latents of their videos: the sampler's own where the workspace keeps them, else encoded once.

    Raises:
        ReelignError: videos of several sizes, or of one that the model cannot make.
    """
    kept = {video.id: video for video in workspace.videos()} if workspace is not None else {}

    def clip(path: Path, name: str) -> Clip:
        video = kept.get(name)
        if workspace is None or video is None:
            return Clip(path)
        return Clip(workspace.video_path(video), workspace.latents_path(video), video.latents_key)

    prompts = list(dict.fromkeys(each.prompt for each in data.clips))
    return LatentPairs(
        data=data,
        latents=load_latents([clip(each.path, each.name) for each in data.clips], generator, cache),
        conditioning=cached_prompts(prompts, generator, cache / "text"),
        rows=torch.tensor([prompts.index(each.prompt) for each in data.clips]),
    )


def training_levels(settings: LatentRewardSettings, generator: Generator) -> Levels:
    """Draws over the family's own noise levels, or clean ones, on the CPU."""

    def draws(shape: torch.Size, seed: int) -> Draw:
        if settings.levels == "clean":
            return clean(shape)
        return make_draw(
            shape,
            path=generator.path,
            distribution=settings.noise_levels,
            shift=settings.shift,
            generator=generator_from(seed),
            device=torch.device("cpu"),
        )

    return draws


def clean(shape: torch.Size) -> Draw:
    """No noise at all."""
    return Draw(torch.zeros(shape[0]), torch.zeros(shape))


def quarter_draw(shape: torch.Size, quarter: int, generator: Generator, seed: int) -> Draw:
    """A draw for each pair with its level in a quarter of the family's training levels; the same every time."""
    chance = generator_from(seed, "held out", quarter)
    quantiles = (quarter + torch.rand(shape[0], generator=chance)) / QUARTERS
    noise = torch.randn(shape, generator=chance)
    return Draw(generator.path.training_sigmas(quantiles), noise)
