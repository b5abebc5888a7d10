"""What is shown of a video: frames at known places, whole, with their times."""

from __future__ import annotations

import pytest
import torch

from critics.clips import flat
from reelign.critics.frames import shown, squared
from reelign.errors import ReelignError
from reelign.video import Clip


def test_frames_are_spread_from_the_first_to_the_last() -> None:
    clip = Clip(frames=torch.arange(9).view(9, 1, 1, 1).expand(9, 3, 2, 2) / 255, fps=4.0)
    seen = shown(clip, 3)
    assert seen.frames[:, 0, 0, 0].tolist() == [0, 4, 8]
    assert seen.times == (0.0, 1.0, 2.0)
    assert (seen.seconds, seen.fps) == (2.25, pytest.approx(3 / 2.25))
    assert shown(clip, 4, "starts").frames[:, 0, 0, 0].tolist() == [0, 2, 4, 6]
    assert shown(clip, 1).frames[:, 0, 0, 0].tolist() == [4]


def test_a_short_video_is_shown_whole() -> None:
    assert len(shown(flat(0.5, frames=3), 16).frames) == 3


def test_frames_are_padded_and_not_cropped() -> None:
    wide = squared(shown(flat(1.0, frames=1, height=4, width=10), 1).frames)
    assert wide.shape == (1, 3, 10, 10)
    assert wide[0, 0].sum() == 255 * 40
    assert wide[0, 0, 3:7].min() == 255


def test_another_video_or_time_has_another_content() -> None:
    seen = shown(flat(0.5), 2)
    assert seen.content == shown(flat(0.5), 2).content
    others = [
        shown(flat(0.6), 2),
        shown(flat(0.5), 3),
        shown(flat(0.5, fps=4.0), 2),
        shown(flat(0.5, height=32, width=24), 2),
    ]
    assert seen.content not in [other.content for other in others]
    assert len({other.content for other in others}) == 4


@pytest.mark.parametrize(
    "clip",
    [
        Clip(frames=torch.zeros(0, 3, 2, 2), fps=8.0),
        Clip(frames=torch.zeros(2, 1, 2, 2), fps=8.0),
        Clip(frames=torch.zeros(2, 3, 2, 2, dtype=torch.uint8), fps=8.0),
        Clip(frames=torch.zeros(2, 3, 2, 2), fps=0.0),
    ],
)
def test_what_is_no_video_is_refused(clip: Clip) -> None:
    with pytest.raises(ReelignError, match="A video has"):
        shown(clip, 2)
