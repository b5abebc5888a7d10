"""What judges say of the candidates of a group, as numbers: a reward's scores, or how often each wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Protocol

import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.generators.base import Generator
from reelign.recipes.latent_reward.feedback import LatentFeedback
from reelign.recipes.online.counts import Clock
from reelign.records import Judge, load_judges
from reelign.rewards.base import Reward
from reelign.rewards.judging import PREFIX, RewardUse, checked, opened
from reelign.rewards.opening import check_reward
from reelign.training.latent_reward_files import read_shape
from reelign.training.rollouts import Rollout, Sampler

LATENT = "latent:"
"""Before the folder of a latent reward."""


@dataclass(frozen=True)
class Shown:
    """The candidates of some groups as a judge gets them; pixels are made when they are asked for."""

    rollout: Rollout
    generator: Generator
    sampler: Sampler
    fps: float
    seed: int
    """Of all chance."""
    clock: Clock

    @property
    def prompts(self) -> list[str]:
        """Of each group."""
        return [group.prompt for group in self.rollout.groups]

    @torch.no_grad()
    def videos(self, frames: Sequence[int] | None = None) -> Tensor:
        """(groups, candidates, F, 3, H, W) in [0, 1], of these frames alone where some are named; what is not finite is
        black, and its score does not count."""
        only = {} if frames is None else {"frames": frames}
        parts = self.rollout.latents.flatten(0, 1).split(self.sampler.batch_size)
        with self.clock.time("decode"):
            videos = torch.cat([self.generator.decode(part, **only) for part in parts])
        videos = videos.nan_to_num(0.0)
        return videos.reshape(*self.rollout.latents.shape[:2], *videos.shape[1:])


class Feedback(Protocol):
    """Scores of whole groups."""

    name: str
    version: str
    dimensions: tuple[str, ...]
    ties: Mapping[str, float]
    """Scores of a dimension no further apart are equal; none is 0."""
    reads_pixels: bool
    """Whether it asks for videos; otherwise no VAE is loaded."""

    def scores(self, shown: Shown) -> dict[str, Tensor]:
        """{dimension: (groups, candidates) fp32} on the CPU, higher is better; NaN could not be scored."""
        ...


class RewardFeedback:
    """A reward's scores, each candidate scored once.

    Unlike a judge of stored videos it may be one that normalises by group, since every call holds whole groups then.
    """

    reads_pixels = True

    def __init__(self, reward: Reward, use: RewardUse) -> None:
        self.reward = reward
        self.name, self.version = reward.name, reward.version
        self.dimensions = use.dimensions or reward.dimensions
        ties = dict(use.tie) if isinstance(use.tie, Mapping) else dict.fromkeys(self.dimensions, use.tie)
        unknown = [name for name in (*self.dimensions, *ties) if name not in reward.dimensions]
        if unknown:
            raise ReelignError(
                f"The reward {reward.name!r} has no dimension {unknown[0]!r}.",
                f"It scores {', '.join(reward.dimensions)}.",
            )
        self.ties: Mapping[str, float] = ties
        self.batch_size = use.batch_size

    def scores(self, shown: Shown) -> dict[str, Tensor]:
        videos = shown.videos(self.reward.frames_read(shown.sampler.size.num_frames))
        candidates, size = videos.shape[1], self.batch_size
        if self.reward.relative:
            size = max(1, size // candidates) * candidates
        flat, texts = videos.flatten(0, 1), shown.rollout.prompts
        parts = [
            checked(self.reward, flat[start : start + size], texts[start : start + size], shown.fps)
            for start in range(0, len(flat), size)
        ]
        return {name: torch.cat([part[name] for part in parts]).reshape(-1, candidates) for name in self.dimensions}


class PanelFeedback:
    """What judges that compare say of all pairs of a group.

    A candidate's score is its wins less its losses, over all comparisons that it stood in and all judges: +1 beats all
    others in everyone's eyes. The side on which a video is shown is drawn. A comparison without a verdict counts for
    neither; a candidate without any is NaN.
    """

    reads_pixels = True

    def __init__(self, judges: Sequence[Judge]) -> None:
        self.judges = list(judges)
        self.name = ", ".join(judge.name for judge in judges)
        self.version = ", ".join(judge.version for judge in judges)
        self.dimensions = tuple(dict.fromkeys(name for judge in judges for name in judge.dimensions))
        self.ties: Mapping[str, float] = {}

    def scores(self, shown: Shown) -> dict[str, Tensor]:
        groups = zip(shown.videos(), shown.prompts, strict=True)
        found = [self._group(videos, prompt, (shown.seed, place)) for place, (videos, prompt) in enumerate(groups)]
        return {name: torch.stack([each[name] for each in found]) for name in self.dimensions}

    def _group(self, videos: Tensor, prompt: str, seed: tuple[int, int]) -> dict[str, Tensor]:
        points, asked = ({name: torch.zeros(len(videos)) for name in self.dimensions} for _ in range(2))
        pairs = list(combinations(range(len(videos)), 2))
        for judge in self.judges:
            chance = generator_from(*seed, judge.name)
            swapped = (torch.rand(len(pairs), generator=chance) < 0.5).tolist()
            shown = [(b, a) if swap else (a, b) for (a, b), swap in zip(pairs, swapped, strict=True)]
            left, right = (torch.tensor([pair[side] for pair in shown]) for side in (0, 1))
            verdicts = judge.compare(videos[left], videos[right], [str(prompt)] * len(shown), generator=chance)
            if len(verdicts) != len(shown):
                raise ReelignError(
                    f"The judge {judge.name!r} gave {len(verdicts)} answers on {len(shown)} pairs.",
                    "compare() returns one dict a pair, from each of the judge's dimensions to 'a', 'b' or 'tie'.",
                )
            for (a, b), answers in zip(shown, verdicts, strict=True):
                for name, verdict in answers.items():
                    worth = {"a": 1.0, "b": -1.0, "tie": 0.0}[verdict]
                    points[name][[a, b]] += torch.tensor([worth, -worth])
                    asked[name][[a, b]] += 1
        # 0 of 0 is NaN: nobody said anything of that candidate.
        return {name: points[name] / asked[name] for name in self.dimensions}


def open_feedback(spec: str, settings: Mapping[str, Any]) -> Feedback:
    """The feedback of `judge=...`.

    Args:
        spec: as for `records.load_judges`.
        settings: of what stands behind a prefix, {"reward": RewardUse(...)}.
    Raises:
        ReelignError: an unknown judge, reward or dimension, or weights that cannot be loaded.
    """
    if spec.startswith(LATENT):
        return LatentFeedback(spec.removeprefix(LATENT))
    if spec.startswith(PREFIX):
        use: RewardUse = settings["reward"]
        return RewardFeedback(opened(spec.removeprefix(PREFIX), use), use)
    return PanelFeedback(load_judges(spec, settings))


def check_feedback(spec: str, settings: Mapping[str, Any]) -> None:
    """Refuse a reward or settings that are not there, without loading weights.

    Raises:
        ReelignError: an unknown reward or setting.
    """
    if spec.startswith(LATENT):
        read_shape(spec.removeprefix(LATENT))
    if spec.startswith(PREFIX):
        check_reward(spec.removeprefix(PREFIX), **settings["reward"].options)
