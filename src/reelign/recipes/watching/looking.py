"""One look of the watch: fixed prompts and seeds sampled, decoded and scored, without a file in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reelign.diffusion.seeds import seed_from
from reelign.generators.encoders import VAE, holding, image_encoders
from reelign.recipes.sampling import Sampling
from reelign.recipes.watching.measures import ACROSS_PROMPTS, IN_PROMPT, distances, diversity, reduced
from reelign.recipes.watching.settings import WatchSettings, check_bands
from reelign.records import content_key, prompt_content
from reelign.rewards.base import Reward
from reelign.rewards.judging import checked
from reelign.training.asked import Sides
from reelign.training.long_rollouts import sample_videos
from reelign.training.looks import HELD_OUT, PROXY, TRAINING, Look
from reelign.training.policy import Policy

DISTANCE = "distance"
ALWAYS = (ACROSS_PROMPTS, IN_PROMPT, DISTANCE)
"""Measures of every look, whatever `proxies` asks for."""


@dataclass(frozen=True)
class Looker:
    """What every look of a run has in common.

    Args:
        prompts: (videos,) the prompt of each, those of one prompt together.
        seeds: (videos,) of the noise.
        sides: of guidance on the CPU, a row for each video.
        training: the reward that training maximises; None where judges that compare take its place.
        held_out, proxies: what else scores the videos.
    Raises:
        ReelignError: the settings name bands of measures that no look takes.
    """

    settings: WatchSettings
    sampling: Sampling
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    sides: Sides
    training: Reward | None
    held_out: Mapping[str, Reward]
    """By the name that the settings give it."""
    proxies: Sequence[Reward]

    def __post_init__(self) -> None:
        asked = [name for each in self.proxies for name in each.dimensions]
        check_bands(self.settings, [*asked, *ALWAYS])

    @property
    def key(self) -> str:
        """Changes with anything that two looks must share to be compared."""
        rewards = [*([self.training] if self.training else []), *self.held_out.values(), *self.proxies]
        versions = [[each.name, each.version] for each in rewards]
        return content_key(
            [prompt_content(prompt) for prompt in self.prompts],
            self.seeds,
            self.sampling.as_dict(),
            versions,
            list(self.held_out),
        )

    @property
    def shown(self) -> list[int]:
        """Places of the videos of the grid: the first of each of the first prompts."""
        return [self.prompts.index(prompt) for prompt in dict.fromkeys(self.prompts)][: self.settings.shown]

    @torch.no_grad()
    def take(self, policy: Policy, weights: Literal["average", "base"], step: int) -> tuple[Look, dict[int, Tensor]]:
        """Look at these weights.

        Returns:
            The look, the same on all ranks, and this rank's own of the shown videos by their place, (F, 3, H, W).
        """
        count, ranks = len(self.prompts), policy.ranks
        found: list[dict[str, Tensor]] = []
        small: list[Tensor] = []
        shown: dict[int, Tensor] = {}
        needed = [VAE] if self.sampling.segments == 1 else list(image_encoders(policy.generator))
        # A reward may draw from the global generator; training must not see that it did.
        with torch.random.fork_rng(devices=[]), policy.using(weights), holding(policy.generator, *needed):
            for rows in ranks.share(count).split(self.settings.batch_size):
                videos, scores = self._some(policy, weights, rows)
                found.append(scores)
                small.append(reduced(videos).cpu())
                shown |= {row: videos[at].cpu() for at, row in enumerate(rows.tolist()) if row in self.shown}
        whole = {name: ranks.gather(torch.cat([each[name] for each in found]))[:count] for name in found[0]}
        seen: Tensor = ranks.gather(torch.cat(small))[:count]
        look = Look(step, self.prompts, whole)
        differing = {f"{PROXY}/{name}": values for name, values in diversity(seen, look.clusters).items()}
        return Look(step, self.prompts, whole | differing), shown

    @torch.no_grad()
    def is_base(self, policy: Policy) -> bool:
        """Whether the policy computes what the base does, to the bit: an adapter that nothing has moved yet."""
        shape = (1, *policy.generator.latent_shape(self.sampling.size))
        latents = torch.zeros(shape, device=policy.generator.device)
        one = torch.zeros(1, dtype=torch.long)
        conditioning = self.sides.own.take(one).to(policy.generator.device)
        with policy.using("average"):
            found = distances(policy, latents, conditioning, one, len(self.prompts), self.settings.seed)
        return not policy.ranks.any(bool(found.ne(0)))[0]

    def _some(self, policy: Policy, weights: str, rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Videos (B, F, 3, H, W), all NaN where one could not be made, and their scores."""
        generator = policy.generator
        conditioning, negative = (side.to(generator.device) for side in self.sides.take(rows))
        made = sample_videos(
            generator,
            conditioning,
            [self.seeds[row] for row in rows.tolist()],
            self.sampling.size,
            steps=self.sampling.steps,
            guidance=self.sampling.guidance(negative),
            segments=self.sampling.segments,
        )
        latents, videos = made.latents, made.videos
        whole = videos.flatten(1).isfinite().all(dim=1).cpu()
        scores = self._scores(videos.nan_to_num(0.0), [self.prompts[row] for row in rows.tolist()])
        scores[f"{PROXY}/{DISTANCE}"] = torch.zeros(len(rows))
        if weights != "base":
            seed = self.settings.seed
            scores[f"{PROXY}/{DISTANCE}"] = distances(policy, latents, conditioning, rows, len(self.prompts), seed)
        missing = ~whole
        videos = videos.masked_fill(missing.to(videos.device)[:, None, None, None, None], float("nan"))
        return videos, {name: values.masked_fill(missing, float("nan")) for name, values in scores.items()}

    def _scores(self, videos: Tensor, prompts: list[str]) -> dict[str, Tensor]:
        kinds = [*([(TRAINING, self.training)] if self.training else []), *((PROXY, each) for each in self.proxies)]
        held_out = [(f"{HELD_OUT}/{name}", each) for name, each in self.held_out.items()]
        return {
            f"{kind}/{dimension}": values
            for kind, reward in (*kinds, *held_out)
            for dimension, values in checked(reward, videos, prompts, self.sampling.fps).items()
        }


def fixed_seeds(prompts: Sequence[str], seeds: int, seed: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The prompt and the noise's seed of each video: `seeds` of each prompt, together."""
    cells = [(prompt, index) for prompt in prompts for index in range(seeds)]
    return tuple(prompt for prompt, _ in cells), tuple(seed_from(seed, prompt, index) for prompt, index in cells)
