"""Another reward over the joints of a long clip alone: how well its segments go on from one another."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.base import Reward, RewardCard, Videos, check_input
from reelign.rewards.opening import open_reward
from reelign.video.long_clips import LongClip

ACROSS, WITHIN, EXCESS = "across", "within", "excess"


class Joints(Reward):
    """What a reward says of the frames around each joint of a clip of several segments.

    VADER (arXiv:2407.08737) makes a long video by going on from its last frame and asks V-JEPA for consistency; here
    V-JEPA 2 looks at the joints, where such videos break:

        across = mean over joints of r(window over the joint)
        within = mean over segments of r(window in the segment's middle)
        excess = across - within: 0 where a joint is as smooth as the rest, below where it breaks

    A clip of S segments of F frames has S·(F - 1) + 1, a joint's frame once.

    Args:
        reward: whose opinion of each window, as for `open_reward`, or one that is open.
        options: what that is opened with.
        dimension: which of its dimensions; '' where it has one.
        segments: S, at least 2.
        segment_frames: F.
        frames: of a window, 2 to F - 1; None is as many as the reward needs, and at least 2.
        which: `all` joints, or the `last` alone, which is what a gradient through the last segment reaches.
        compare: score the middles of segments too, as `within` and `excess`.
    """

    card = RewardCard(
        what="Another reward in windows over the joints of a clip of several segments: reward=vjepa2",
        dimensions=(ACROSS,),
        differentiable=True,
        frames_needed=5,
    )

    def __init__(
        self,
        *,
        reward: str | Reward,
        options: Mapping[str, Any] | None = None,
        dimension: str = "",
        segments: int,
        segment_frames: int,
        frames: int | None = None,
        which: Literal["all", "last"] = "all",
        compare: bool = False,
    ) -> None:
        if segments < 2 or which not in ("all", "last"):
            raise ReelignError(
                f"Joints of {segments} segments are asked for, and of them {which!r}.",
                "Give segments=2 or more, and which=all or last.",
            )
        self.reward = reward if isinstance(reward, Reward) else open_reward(reward, **(options or {}))
        self.dimension = dimension or self.reward.dimensions[0]
        if self.dimension not in self.reward.dimensions or (not dimension and len(self.reward.dimensions) > 1):
            raise ReelignError(
                f"One dimension of {self.reward.name!r} is scored over the joints, and {dimension!r} names none.",
                f"Set dimension to one of {', '.join(self.reward.dimensions)}.",
            )
        self.clip = LongClip(segments, segment_frames)
        self.frames = max(2, self.reward.frames_needed) if frames is None else frames
        over = self.clip.over_joints(self.frames)
        self.over = over if which == "all" else over[-1:]
        self.inside = self.clip.inside(self.frames) if compare else []
        self.dimensions = (ACROSS, WITHIN, EXCESS) if compare else (ACROSS,)
        self.name = f"joints-{self.reward.name}"
        self.relative = self.reward.relative
        self.version = f"{self.reward.version} {self.dimension} in {self.over} and {self.inside}"

    @property
    def differentiable(self) -> bool:
        return self.reward.differentiable

    @property
    def frames_needed(self) -> int:
        """Those of the windows, which `frames_read` leaves of a whole clip."""
        return len(self._read())

    def frames_read(self, count: int) -> list[int]:
        """Frames of the windows alone, of a whole clip.

        Raises:
            ReelignError: the clip is of other segments.
        """
        if count != self.clip.length:
            raise ReelignError(
                f"A clip of {count} frames is not of {self.clip.segments} segments of {self.clip.frames} frames, which "
                f"have {self.clip.length}.",
                "Set segments and segment_frames of the reward's options to those that the clips are made of.",
            )
        return self._read()

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        """As `Reward.score`, of whole clips or of what `frames_read` leaves of them."""
        check_input(self, videos, prompts, fps=fps)
        windows = [*self.over, *self.inside]
        looked = [video[place] for video in videos for place in self._places(len(video), windows)]
        together = torch.stack(looked) if isinstance(videos, Tensor) else looked
        texts = [prompt for prompt in prompts for _ in windows]
        values = self.reward.score(together, texts, fps=fps)[self.dimension].unflatten(0, (-1, len(windows)))
        across = values[:, : len(self.over)].mean(dim=1)
        if not self.inside:
            return {ACROSS: across}
        within = values[:, len(self.over) :].mean(dim=1)
        return {ACROSS: across, WITHIN: within, EXCESS: across - within}

    def _read(self) -> list[int]:
        return sorted({*itertools.chain(*self.over, *self.inside)})

    def _places(self, count: int, windows: list[list[int]]) -> list[list[int]]:
        """The windows as places in a video of `count` frames, whole or the frames read alone."""
        read = self._read()
        if count == len(read):
            place = {frame: index for index, frame in enumerate(read)}
            return [[place[frame] for frame in window] for window in windows]
        self.frames_read(count)
        return windows
