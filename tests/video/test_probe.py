"""What a file says of itself equals what reading it gives, and damage is noticed without decoding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from reelign.errors import ReelignError
from reelign.video import probe_video, read_video, write_video


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    noise = torch.rand(17, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    write_video(tmp_path / "clip.mp4", noise, 24000 / 1001)
    return tmp_path / "clip.mp4"


def test_the_size_is_that_of_the_frames(clip: Path) -> None:
    probe, read = probe_video(clip), read_video(clip)
    assert (probe.num_frames, 3, probe.height, probe.width) == tuple(read.frames.shape)
    assert probe.fps == pytest.approx(read.fps)
    assert str(probe) == "17 frames of 32 x 48"


def test_files_that_are_cut_missing_or_no_video(clip: Path, tmp_path: Path) -> None:
    content = clip.read_bytes()
    for cut in (len(content) // 2, len(content) - 400, 10):
        clip.write_bytes(content[:cut])
        with pytest.raises(ReelignError, match=r"clip\.mp4 cannot be read as a video"):
            probe_video(clip)
    with pytest.raises(ReelignError, match="cannot be read as a video"):
        probe_video(tmp_path / "missing.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ReelignError, match="cannot be read as a video"):
        probe_video(tmp_path / "text.mp4")
