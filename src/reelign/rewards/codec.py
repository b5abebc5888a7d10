"""A reward trained on compressed clips sees compressed clips: a generated one goes through H.264 before it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.base import Reward, Videos
from reelign.video import read_video, write_video

CRF = 23
"""x264's own default, which most clips of the web were made with."""


def codec_roundtrip(videos: Videos, *, fps: float, crf: int = CRF) -> Videos:
    """Each video as it is after H.264 4:2:0 and back; no gradient comes through.

    Args:
        videos: (B, F, 3, H, W) or B videos (F, 3, H, W), in [0, 1]; H and W even.
        fps: frames per second.
        crf: x264's constant rate factor, 0 to 51.
    Raises:
        ReelignError: a video that cannot be encoded.
    """
    with tempfile.TemporaryDirectory(prefix="reelign-") as folder:
        path = Path(folder) / "video.mp4"
        back = [_through(path, video, fps, crf) for video in videos]
    return torch.stack(back) if isinstance(videos, Tensor) else back


def _through(path: Path, video: Tensor, fps: float, crf: int) -> Tensor:
    write_video(path, video, fps, crf=crf)
    return read_video(path).frames.to(video)


class Compressed(Reward):
    """Another reward behind `codec_roundtrip`."""

    def __init__(self, reward: Reward, *, crf: int = CRF) -> None:
        self.reward = reward
        self.crf = crf
        self.name = reward.name
        self.version = f"{reward.version} after H.264 at crf {crf}"
        self.dimensions = reward.dimensions
        self.relative = reward.relative

    @property
    def differentiable(self) -> bool:
        return False

    @property
    def frames_needed(self) -> int:
        return self.reward.frames_needed

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        """As `Reward.score`; it needs fps."""
        return self.reward.score(self.compressed(videos, fps), prompts, fps=fps)

    def compressed(self, videos: Videos, fps: float | None) -> Videos:
        """The videos as the reward within sees them."""
        if fps is None:
            raise ReelignError(
                f"The reward {self.name!r} scores videos after a codec, which needs their frame rate.", "Give fps."
            )
        return codec_roundtrip(videos, fps=fps, crf=self.crf)
