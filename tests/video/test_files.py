"""mp4 files written and read back: values, determinism, and every way a file can be wrong."""

from __future__ import annotations

import io
from pathlib import Path

import av
import pytest
import torch

from reelign.errors import ReelignError
from reelign.video import encode_video, read_video, write_video


@pytest.fixture
def video() -> torch.Tensor:
    """(9, 3, 32, 32): a disc of one colour moving over another."""
    frames = torch.full((9, 3, 32, 32), 0.3)
    for number in range(9):
        frames[number, 0, 8:20, 2 * number : 2 * number + 12] = 0.9
    return frames


def test_round_trip(tmp_path: Path, video: torch.Tensor) -> None:
    path = tmp_path / "new" / "clip.mp4"
    write_video(path, video, fps=8)
    clip = read_video(path)
    assert clip.frames.shape == video.shape
    assert clip.frames.dtype == torch.float32
    assert clip.fps == 8
    assert (clip.frames - video).abs().mean() < 0.02
    assert [each.name for each in path.parent.iterdir()] == ["clip.mp4"], "nothing is left beside it"


@pytest.mark.parametrize("colour", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (0, 0, 0), (0.5, 0.5, 0.5)])
def test_colours_come_back(tmp_path: Path, colour: tuple[float, float, float]) -> None:
    plain = torch.tensor(colour).float().view(1, 3, 1, 1).expand(5, 3, 16, 16)
    write_video(tmp_path / "c.mp4", plain, fps=16)
    assert (read_video(tmp_path / "c.mp4").frames - plain).abs().max() < 0.01


@pytest.mark.parametrize("fps", [8, 16, 23.976, 30000 / 1001, 0.5])
def test_rates_come_back(tmp_path: Path, video: torch.Tensor, fps: float) -> None:
    write_video(tmp_path / "c.mp4", video, fps=fps)
    assert read_video(tmp_path / "c.mp4").fps == pytest.approx(fps, rel=1e-4)


def test_one_frame(tmp_path: Path, video: torch.Tensor) -> None:
    write_video(tmp_path / "c.mp4", video[:1], fps=8)
    assert read_video(tmp_path / "c.mp4").frames.shape == (1, 3, 32, 32)


def test_the_file_is_what_browsers_play_and_always_the_same(tmp_path: Path, video: torch.Tensor) -> None:
    write_video(tmp_path / "a.mp4", video, fps=8)
    write_video(tmp_path / "b.mp4", video, fps=8)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data == (tmp_path / "b.mp4").read_bytes()
    # x264's macroblock tree made another file in one of thirty times.
    assert {encode_video(video, 8) for _ in range(100)} == {data}
    assert data.index(b"moov") < data.index(b"mdat"), "the index comes first (faststart)"
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")


def test_encode_enlarges_without_blur(video: torch.Tensor) -> None:
    with av.open(io.BytesIO(encode_video(video, 8, scale=4, crf=1)), "r") as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert frame.shape == (128, 128, 3)
    pixels = torch.from_numpy(frame).permute(2, 0, 1)[:, 2::4, 2::4].float() / 255
    assert (pixels - video[0]).abs().max() < 0.08


def test_a_lower_crf_is_closer(video: torch.Tensor, tmp_path: Path) -> None:
    noisy = (video + 0.1 * torch.rand(video.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    assert len(encode_video(noisy, 8, crf=2)) > len(encode_video(noisy, 8, crf=30))


def test_a_truncated_file_is_never_read_in_part(tmp_path: Path, video: torch.Tensor) -> None:
    data = encode_video(video, 8)
    path = tmp_path / "cut.mp4"
    for size in [*range(0, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(ReelignError, match=r"cut\.mp4 cannot be read as a video"):
            read_video(path)


def test_a_hole_in_the_middle_is_noticed(tmp_path: Path) -> None:
    noise = torch.rand(9, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    data = bytearray(encode_video(noise, 8))
    start = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[start : start + 4096] = bytes(4096)  # what a disk or a network leaves
    (tmp_path / "hole.mp4").write_bytes(data)
    with pytest.raises(ReelignError, match=r"hole\.mp4 cannot be read as a video"):
        read_video(tmp_path / "hole.mp4")


def test_a_clip_cut_without_encoding_again_is_whole(tmp_path: Path, video: torch.Tensor) -> None:
    write_video(tmp_path / "a.mp4", video, fps=8)
    with (
        av.open(str(tmp_path / "a.mp4"), "r") as whole,
        av.open(str(tmp_path / "b.mp4"), "w", options={"avoid_negative_ts": "disabled"}) as cut,
    ):
        source = whole.streams.video[0]
        target = cut.add_stream_from_template(source)
        for packet in whole.demux(source):
            if packet.dts is not None and packet.pts is not None and source.time_base is not None:
                shift = int(3 / (source.time_base * 8))  # an edit list then hides three frames
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, target
                cut.mux(packet)
    assert len(read_video(tmp_path / "b.mp4").frames) == 6


def test_files_that_are_no_video(tmp_path: Path) -> None:
    with pytest.raises(ReelignError, match=r"no video file at .*missing\.mp4"):
        read_video(tmp_path / "missing.mp4")
    (tmp_path / "text.mp4").write_text("hello " * 500)
    with pytest.raises(ReelignError, match=r"text\.mp4 cannot be read"):
        read_video(tmp_path / "text.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        silence = torch.zeros(1, 1024).numpy()
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ReelignError, match=r"sound\.mp4 cannot be read as a video: it has no video stream"):
        read_video(tmp_path / "sound.mp4")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(5, 3, 31, 32), "even height and width, got 31x32"),
        (torch.zeros(3, 5, 32, 32), "must be a float tensor"),
        (torch.zeros(0, 3, 32, 32), "must be a float tensor"),
        (torch.zeros(5, 3, 32, 32, dtype=torch.uint8), "must be a float tensor"),
        (torch.full((5, 3, 32, 32), -1.0), r"values must be in \[0, 1\], got -1 to -1"),
        (torch.full((5, 3, 32, 32), torch.nan), "got nan"),
    ],
)
def test_what_cannot_be_written_leaves_no_file(tmp_path: Path, wrong: torch.Tensor, message: str) -> None:
    with pytest.raises(ReelignError, match=message):
        write_video(tmp_path / "c.mp4", wrong, fps=8)
    assert list(tmp_path.iterdir()) == []


def test_settings_out_of_range(tmp_path: Path, video: torch.Tensor) -> None:
    with pytest.raises(ReelignError, match="fps must be positive, got 0"):
        write_video(tmp_path / "c.mp4", video, fps=0)
    with pytest.raises(ReelignError, match="crf must be between 0 and 51, got 99"):
        write_video(tmp_path / "c.mp4", video, fps=8, crf=99)
    with pytest.raises(ReelignError, match="scale must be a whole number"):
        encode_video(video, 8, scale=0)
    assert list(tmp_path.iterdir()) == []
