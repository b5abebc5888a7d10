"""Contact sheets: size, which frames are shown, and what is refused."""

from __future__ import annotations

import pytest
import torch

from reelign.errors import ReelignError
from reelign.video import contact_sheet


def test_rows_are_videos_and_columns_are_frames_from_first_to_last() -> None:
    videos = torch.linspace(0, 1, 9).view(1, 9, 1, 1, 1).expand(2, 9, 3, 8, 8)
    sheet = contact_sheet(videos, ["one", "two"], frames=3, scale=2)
    assert sheet.size == (4 + 3 * 20, 4 + 2 * (16 + 16 + 4))
    greys = [sheet.getpixel((4 + column * 20 + 8, 4 + 16 + 8)) for column in range(3)]
    assert greys == [(0, 0, 0), (128, 128, 128), (255, 255, 255)]


def test_more_frames_than_there_are_and_long_labels() -> None:
    sheet = contact_sheet(torch.zeros(1, 2, 3, 8, 8), ["a very long label " * 20], frames=5)
    assert sheet.size[0] == 4 + 2 * 100, "small videos grow to about 96 pixels"


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ReelignError, match="2 videos need as many labels, got 1"):
        contact_sheet(torch.zeros(2, 2, 3, 8, 8), ["one"])
    with pytest.raises(ReelignError, match="videos must be"):
        contact_sheet(torch.zeros(2, 3, 8, 8), ["one", "two"])
    with pytest.raises(ReelignError, match="at least 1"):
        contact_sheet(torch.zeros(1, 2, 3, 8, 8), ["one"], frames=0)
