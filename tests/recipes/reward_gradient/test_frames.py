"""Which frames are chosen, at what rate, and where they stand."""

from __future__ import annotations

import pytest
import torch

from reelign.errors import ReelignError
from reelign.recipes.reward_gradient.frames import FrameChoice, frame_rate, places_in_clip


def chosen(choice: FrameChoice, seed: int = 0, frames: int = 9) -> list[int] | None:
    return choice.choose(frames, torch.Generator().manual_seed(seed))


def test_each_way_chooses_what_it_says() -> None:
    assert chosen(FrameChoice()) is None
    assert chosen(FrameChoice(count=3)) == [0, 4, 8]
    assert chosen(FrameChoice(count=1)) == [4]
    assert chosen(FrameChoice(count=3, how="window", start=2)) == [2, 3, 4]
    windows = {tuple(chosen(FrameChoice(count=7, how="window"), seed) or ()) for seed in range(30)}
    assert windows == {tuple(range(first, first + 7)) for first in range(3)}
    for seed in range(20):
        randoms = chosen(FrameChoice(count=4, how="random"), seed)
        assert randoms is not None
        assert randoms == sorted(set(randoms))
        low, middle, high = chosen(FrameChoice(count=3, how="segments"), seed) or ()
        assert 0 <= low < 3 <= middle < 6 <= high < 9


def test_rate_and_places() -> None:
    assert frame_rate([0, 4, 8], 16) == 4
    assert frame_rate([2, 3, 4], 16) == 16
    assert frame_rate([5], 16) == 16
    assert places_in_clip([0, 4, 8], 9).tolist() == [-1, 0, 1]
    assert places_in_clip([0], 1).tolist() == [0]


def test_frames_outside_the_clip_are_refused() -> None:
    with pytest.raises(ReelignError, match=r"frames\.count=10 is more than the 9"):
        chosen(FrameChoice(count=10))
    with pytest.raises(ReelignError, match="window of frames 7 to 9 is outside the clip") as caught:
        chosen(FrameChoice(count=3, how="window", start=7))
    assert "at most 6" in str(caught.value)
    for wrong, word in (
        ({"count": 0}, "count"),
        ({"how": "random"}, "count"),
        ({"count": 2, "start": 1}, "start"),
        ({"attenuation": -1}, "attenuation"),
    ):
        with pytest.raises(ValueError, match=f"^{word}"):
            FrameChoice(**wrong)
