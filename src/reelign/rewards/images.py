"""Rewards that look at frames one by one: a video's score is the mean (or the least) of its frames' scores."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.base import Reward, Videos, check_input
from reelign.rewards.preprocess import spaced

Reduction = Literal["mean", "min"]

log = logging.getLogger(__name__)


class FrameReward(Reward):
    """A reward that scores frames; subclasses give `score_frames` and one dimension.

    Args:
        frames: how many frames are looked at, evenly spread; None is all of them.
        reduce: `mean` over the frames, or `min`, the worst of them.
        batch_size: frames in one call of the model.
    """

    def __init__(self, *, frames: int | None = None, reduce: Reduction = "mean", batch_size: int = 32) -> None:
        if (frames is not None and frames < 1) or batch_size < 1:
            raise ReelignError(f"frames is {frames} and batch_size {batch_size}.", "Give 1 or more.")
        if reduce not in ("mean", "min"):
            raise ReelignError(f"reduce is {reduce!r}.", "Give mean or min.")
        self.frames = frames
        self.reduce = reduce
        self.batch_size = batch_size

    @property
    def frames_needed(self) -> int:
        return max(self.card.frames_needed, self.frames or 1)

    def frames_read(self, count: int) -> list[int] | None:
        return None if self.frames is None else spaced(count, self.frames)

    @abstractmethod
    def score_frames(self, videos: Videos, prompts: Sequence[str]) -> list[Tensor]:
        """The score (K,) of each frame looked at, a tensor per video."""

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        check_input(self, videos, prompts, fps=fps)
        per_video = self.score_frames(videos, prompts)
        reduced = [scores.float().mean() if self.reduce == "mean" else scores.float().min() for scores in per_video]
        return {self.dimensions[0]: torch.stack(reduced)}


def look(videos: Videos, count: int | None, preprocess: Callable[[Tensor], Tensor], device: torch.device) -> Tensor:
    """The frames looked at of all videos, as the model takes them, in a row.

    Args:
        videos: as for `Reward.score`.
        count: frames per video, evenly spread; None is all.
        preprocess: (K, 3, H, W) in [0, 1] to (K, 3, h, w), the same size for every video.
    Returns:
        (sum of K, 3, h, w).
    """
    chosen = [video[spaced(len(video), count)] for video in videos]
    # A few at a time: Pillow's resize works in double precision, eight bytes for each byte of a frame.
    return torch.cat([preprocess(part.to(device)) for frames in chosen for part in frames.split(16)])


def counts(videos: Videos, count: int | None) -> list[int]:
    """How many frames of each video are looked at."""
    return [len(video) if count is None else count for video in videos]


def in_batches(model: Callable[..., Tensor], batch_size: int, *inputs: Tensor) -> Tensor:
    """A model over slices of `batch_size` of its inputs, put together again."""
    return torch.cat([model(*parts) for parts in zip(*(each.split(batch_size) for each in inputs), strict=True)])


def tell_of_cut_texts(name: str, lengths: Sequence[int], limit: int) -> None:
    """Say that texts are longer than their model reads; it reads their first `limit` tokens, as it was trained to.

    Args:
        name: of the reward or model.
        lengths: tokens of each text, with the special ones.
        limit: tokens that the model reads.
    """
    cut = [length for length in lengths if length > limit]
    if cut:
        log.warning(
            "%s reads %d tokens of a prompt: the end of %d of %d prompts (up to %d tokens) was left out.",
            name, limit, len(cut), len(lengths), max(cut),
        )  # fmt: skip
