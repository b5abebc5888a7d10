"""Which frame of which segment a long clip's frames are, counted by hand."""

from __future__ import annotations

import pytest
import torch

from reelign.errors import ReelignError
from reelign.video.long_clips import LongClip, joined


def test_frames_of_three_segments_of_five() -> None:
    clip = LongClip(3, 5)
    # 0 1 2 3 4 | 5 6 7 8 | 9 10 11 12
    assert clip.length == 13
    assert clip.joints == [4, 8]
    assert [clip.place(frame) for frame in (0, 4, 5, 8, 9, 12)] == [(0, 0), (0, 4), (1, 1), (1, 4), (2, 1), (2, 4)]
    assert clip.within([1, 4, 5, 12]) == [[1, 4], [1], [4]]
    assert clip.over_joints(2) == [[4, 5], [8, 9]]
    assert clip.over_joints(3) == [[4, 5, 6], [8, 9, 10]]
    assert clip.over_joints(4) == [[3, 4, 5, 6], [7, 8, 9, 10]]
    assert clip.inside(4) == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]
    assert clip.inside(2) == [[2, 3], [6, 7], [10, 11]]


def test_segments_are_joined_without_the_frame_that_was_given() -> None:
    frames = torch.arange(15.0).view(3, 1, 5, 1, 1, 1)
    assert joined(list(frames)).flatten().tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14]
    one = LongClip(1, 5)
    assert (one.length, one.joints, one.place(4)) == (5, [], (0, 4))
    assert joined([frames[0]]) is not None


@pytest.mark.parametrize(("segments", "frames"), [(0, 5), (2, 1), (1, 0)])
def test_what_is_no_clip_is_refused(segments: int, frames: int) -> None:
    with pytest.raises(ReelignError, match="cannot be"):
        LongClip(segments, frames)


def test_a_window_over_two_joints_is_refused() -> None:
    with pytest.raises(ReelignError, match="Take 2 to 4 frames"):
        LongClip(3, 5).over_joints(5)
    with pytest.raises(ReelignError, match="Take segments of 3 frames or more"):
        LongClip(3, 2).inside(2)
