"""A reward as a judge of pairs and as a scorer: the same tie band, options and batches wherever it is asked."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.records import Verdict
from reelign.rewards.base import Reward, Videos
from reelign.rewards.codec import CRF, Compressed
from reelign.rewards.opening import open_reward

PREFIX = "reward:"
"""Before a reward's name, where a judge or a scorer is named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardOpening:
    """How a reward is opened and fed."""

    options: dict[str, Any] = field(default_factory=dict)
    """What the reward itself takes, such as `model`; of a composed one its `parts`."""
    batch_size: int = 8
    """Videos in one call of the reward."""
    codec_roundtrip: bool = False
    """Through H.264 and back first, for rewards trained on compressed clips."""
    crf: int = CRF

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardUse(RewardOpening):
    """How `reward:NAME` is opened and read as a judge."""

    tie: float | dict[str, float] = 0.0
    """Scores no further apart are a tie; one number, or one per dimension."""
    dimensions: tuple[str, ...] = ()
    """What is judged; none is all that the reward scores."""

    def __post_init__(self) -> None:
        RewardOpening.__post_init__(self)  # super() does not know a class with slots
        bands = list(self.tie.values()) if isinstance(self.tie, Mapping) else [self.tie]
        if not all(0 <= band < math.inf for band in bands):
            raise ValueError(f"tie must be numbers of at least 0, got {self.tie}")


def opened(spec: str, settings: RewardOpening) -> Reward:
    """The reward as the settings want it."""
    reward = open_reward(spec, **settings.options)
    return Compressed(reward, crf=settings.crf) if settings.codec_roundtrip else reward


def reward_judge(spec: str, settings: RewardUse | None = None) -> RewardJudge:
    """The judge behind `judge=reward:NAME`."""
    settings = settings or RewardUse()
    return RewardJudge(
        opened(spec, settings), tie=settings.tie, dimensions=settings.dimensions, batch_size=settings.batch_size
    )


class RewardJudge:
    """A judge (`records.Judge`) that prefers the higher score, and calls a tie what is within its band."""

    kind: Literal["reward"] = "reward"

    def __init__(
        self,
        reward: Reward,
        *,
        tie: float | Mapping[str, float] = 0.0,
        dimensions: Sequence[str] = (),
        batch_size: int = 8,
    ) -> None:
        """Args: as in `RewardUse`.

        Raises:
            ReelignError: a dimension that the reward does not score.
        """
        refuse_relative(reward)
        self.reward = reward
        self.dimensions = tuple(dimensions) or reward.dimensions
        unknown = [
            name
            for name in (*self.dimensions, *(tie if isinstance(tie, Mapping) else ()))
            if name not in reward.dimensions
        ]
        if unknown:
            raise ReelignError(
                f"The reward {reward.name!r} has no dimension {unknown[0]!r}.",
                f"It scores {', '.join(reward.dimensions)}.",
            )
        self.tie = {name: tie.get(name, 0.0) if isinstance(tie, Mapping) else tie for name in self.dimensions}
        self.batch_size = batch_size

    @property
    def name(self) -> str:
        return self.reward.name

    @property
    def version(self) -> str:
        """Another tie band judges otherwise."""
        bands = ", ".join(f"{name} {band:g}" for name, band in self.tie.items() if band)
        return f"{self.reward.version}, tie within {bands}" if bands else self.reward.version

    def verdict(self, dimension: str, score_a: float, score_b: float) -> Verdict:
        """On one dimension of one pair; both scores finite."""
        if abs(score_a - score_b) <= self.tie[dimension]:
            return "tie"
        return "a" if score_a > score_b else "b"

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        """Scores in batches, checked, on the CPU, without gradients: {dimension: (B,)}; NaN where a sample failed."""
        parts = [
            checked(self.reward, videos[start : start + self.batch_size], prompts[start : start + self.batch_size], fps)
            for start in range(0, len(videos), self.batch_size)
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in self.dimensions}

    def compare(
        self, videos_a: Tensor, videos_b: Tensor, prompts: Sequence[str], *, generator: torch.Generator
    ) -> list[dict[str, Verdict]]:
        """As `records.Judge`; a video in several pairs is scored once. No chance plays a part.

        Raises:
            ReelignError: a video that cannot be scored: half a comparison is none.
        """
        both = [*zip(videos_a, prompts, strict=True), *zip(videos_b, prompts, strict=True)]
        places: dict[tuple[bytes, str], int] = {}
        of = [places.setdefault((_content(video), prompt), len(places)) for video, prompt in both]
        first = [of.index(place) for place in range(len(places))]
        found = self.score(torch.stack([both[row][0] for row in first]), [both[row][1] for row in first])
        for name, values in found.items():
            if not values.isfinite().all():
                raise ReelignError(
                    f"The reward {self.name!r} could not score {name} of a video of "
                    f"{both[first[int(values.isfinite().logical_not().nonzero()[0])]][1]!r}.",
                    "Leave the video out, or judge a workspace, which leaves such pairs out by itself.",
                )
        columns = {name: [values.tolist()[place] for place in of] for name, values in found.items()}
        pairs = len(videos_a)
        return [
            {name: self.verdict(name, column[row], column[pairs + row]) for name, column in columns.items()}
            for row in range(pairs)
        ]


class RewardScorer:
    """A reward as the scorer of `evaluate`: all dimensions that the settings name, in batches."""

    def __init__(self, judge: RewardJudge) -> None:
        self._judge = judge

    def __call__(self, videos: Tensor, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        return self._judge.score(videos, prompts, fps=fps)


def checked(reward: Reward, videos: Videos, prompts: Sequence[str], fps: float | None) -> dict[str, Tensor]:
    """One call of a reward without gradients, if it gives what it promises; on the CPU.

    Raises:
        ReelignError: other dimensions or shapes.
    """
    # A reward reads texts, and may know them by heart; one that compares needs to tell prompts by their images too.
    texts = prompts if reward.relative else [str(prompt) for prompt in prompts]
    with torch.no_grad():
        found = promised(reward, reward.score(videos, texts, fps=fps), len(prompts))
    return {name: values.float().cpu() for name, values in found.items()}


def promised(reward: Reward, found: dict[str, Tensor], videos: int) -> dict[str, Tensor]:
    """What a reward returned for so many videos, if it is what it promises.

    Raises:
        ReelignError: other dimensions, shapes or types.
    """
    tensors = isinstance(found, dict) and all(isinstance(values, Tensor) for values in found.values())
    if tensors and set(found) == set(reward.dimensions) and all(each.shape == (videos,) for each in found.values()):
        return found
    told: Any = {name: tuple(each.shape) for name, each in found.items()} if tensors else type(found).__name__
    if isinstance(found, dict) and not tensors:
        told = {name: type(values).__name__ for name, values in found.items()}
    raise ReelignError(
        f"The reward {reward.name!r} returned {told} for {videos} videos.",
        f"It promises a tensor (videos,) for each of {', '.join(reward.dimensions)}.",
    )


def refuse_relative(reward: Reward) -> None:
    """Refuse a reward whose scores would not be the same in another batch.

    Raises:
        ReelignError: it is one.
    """
    if reward.relative:
        raise ReelignError(
            f"The scores of the reward {reward.name!r} depend on the other videos of a batch and cannot be kept.",
            "Normalise its parts by constants, normalise: {DIMENSION: [mean, std]}, and not by group.",
        )


def _content(video: Tensor) -> bytes:
    return hashlib.sha256(video.detach().cpu().contiguous().view(torch.uint8).numpy().data).digest()
