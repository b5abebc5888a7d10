"""What a reward is: from (video, prompt) to a number per dimension, higher is better."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from torch import Tensor

from reelign.errors import ReelignError

Videos: TypeAlias = Tensor | Sequence[Tensor]
"""(B, F, 3, H, W), or B videos (F, 3, H, W) that may differ in length and size; float in [0, 1]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardCard:
    """What `reelign rewards` says of a source before anything of it is loaded."""

    what: str
    """One line: what it looks at and what it was trained on."""
    dimensions: tuple[str, ...]
    """What it scores by default."""
    differentiable: bool
    """Whether gradients reach the videos."""
    frames_needed: int
    """Fewest frames a video must have."""
    weights: str = ""
    """Hub id or address that the weights come from; '' where there are none."""
    licence: str = ""
    """Of the weights; 'non-commercial' is said where it is so."""
    size: str = ""
    """Parameters and bytes, such as '2.2 B parameters, 4.4 GB in bf16'."""
    extra: str = ""
    """The extra that brings its packages: pip install 'reelign[...]'."""


class Reward(ABC):
    """A model that scores videos; one subclass and one file per source, named in `reelign.rewards.REWARDS`."""

    card: ClassVar[RewardCard]
    name: str
    """Unique among the rewards of a workspace; names its scores and judgements there."""
    version: str
    """Changes whenever the same video might be scored differently: weights, preprocessing, templates."""
    dimensions: tuple[str, ...]
    relative: bool = False
    """Whether a score depends on the other videos of its batch: such scores are neither kept nor cached."""

    @property
    def differentiable(self) -> bool:
        return self.card.differentiable

    @property
    def frames_needed(self) -> int:
        return self.card.frames_needed

    def frames_read(self, count: int) -> Sequence[int] | None:
        """Which of a video's `count` frames it looks at, in their order, so that others need not be made; None is all.

        Given these frames alone it scores as it does given all.
        """
        return None

    @abstractmethod
    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        """Score videos; gradients flow to them where `differentiable` and a gradient is asked for.

        Args:
            videos: B of them; equal sizes come stacked.
            prompts: B texts.
            fps: frames per second of the videos; rewards that sample frames by time refuse None.
        Returns:
            A float32 tensor (B,) per dimension, higher is better; NaN where a sample could not be scored.
        Raises:
            ReelignError: input that no sample of the batch can be scored with.
        """


def check_input(reward: Reward, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> None:
    """Refuse what no reward can score.

    Args:
        reward: for its name and the frames it needs.
        videos, prompts, fps: as for `Reward.score`.
    Raises:
        ReelignError: counts that differ, no video, a wrong shape, too few frames, a frame rate of nothing.
    """
    if len(videos) != len(prompts) or not len(videos):
        raise ReelignError(
            f"The reward {reward.name!r} was given {len(videos)} videos and {len(prompts)} prompts.",
            "Give one prompt per video, and at least one of each.",
        )
    for number, video in enumerate(videos):
        if video.ndim != 4 or video.shape[1] != 3 or not video.is_floating_point():
            raise ReelignError(
                f"Video {number} has shape {tuple(video.shape)} of {video.dtype}.",
                "A video is (frames, 3, height, width), float in [0, 1].",
            )
        if len(video) < reward.frames_needed:
            raise ReelignError(
                f"Video {number} has {len(video)} frames; the reward {reward.name!r} needs {reward.frames_needed}.",
                "Generate longer videos or choose another reward: reelign rewards",
            )
    if fps is not None and not 0 < fps < float("inf"):
        raise ReelignError(f"A frame rate of {fps} was given.", "Give frames per second above 0.")
