"""Reading and writing mp4 files: H.264, 4:2:0, BT.709, the same bytes for the same frames."""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from torch import Tensor

from reelign.errors import ReelignError

BT709 = 1
"""The code of BT.709 in H.264's primaries and transfer fields; untagged files are guessed at by size in players."""


@dataclass(frozen=True, kw_only=True, slots=True, weakref_slot=True)
class Clip:
    """A video as read from a file."""

    frames: Tensor
    """(F, 3, H, W), float32 in [0, 1]."""
    fps: float
    """Frames per second, the average where the file's rate varies."""


def write_video(path: str | Path, video: Tensor, fps: float, *, crf: int = 12) -> None:
    """Write an H.264 file that every browser plays; it appears whole or not at all.

    Args:
        path: the mp4 to write; its folder is made where missing, an existing file is replaced.
        video: (F, 3, H, W), float in [0, 1]; H and W even.
        fps: frames per second, > 0.
        crf: x264's constant rate factor, 0 (lossless but for the chroma) to 51; 12 is close to invisible.
    Raises:
        ReelignError: the video cannot be encoded (shape, odd size, values, fps, crf).
    """
    frames = _to_bytes(video)
    rate = _rate(fps)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _encode(beside, frames, rate, crf)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def encode_video(video: Tensor, fps: float, *, scale: int = 1, crf: int = 12) -> bytes:
    """The bytes of the mp4 that `write_video` would write, for embedding in a page.

    Args:
        video, fps, crf: as for `write_video`.
        scale: each pixel becomes `scale` x `scale` pixels (nearest), so that small videos are not blurred by a player.
    Raises:
        ReelignError: the video cannot be encoded.
    """
    if scale < 1:
        raise ReelignError(f"scale must be a whole number of at least 1, got {scale}", "Use scale=1 for no change.")
    frames = _to_bytes(video.repeat_interleave(scale, dim=-2).repeat_interleave(scale, dim=-1))
    # Through a file: moving the index to the front (faststart) needs to read back what was written.
    with tempfile.TemporaryDirectory(prefix="reelign-") as folder:
        path = Path(folder) / "video.mp4"
        _encode(path, frames, _rate(fps), crf)
        return path.read_bytes()


def read_video(path: str | Path) -> Clip:
    """Read every frame of the first video stream.

    Raises:
        ReelignError: the file is missing, unreadable, truncated, or holds no frames. A damaged file is never
            read in part: a shorter clip would be trained on as if it were whole.
    """
    path = Path(path)
    if not path.is_file():
        raise ReelignError(f"no video file at {path}", "Check the path, or make the video again.")
    try:
        frames, fps = _decode(path)
    except (av.error.FFmpegError, EOFError, OSError) as error:
        raise corrupt(path, str(error)) from error
    return Clip(frames=torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous().float() / 255, fps=fps)


def _to_bytes(video: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """(F, 3, H, W) in [0, 1] to (F, H, W, 3) bytes, refusing what would be written wrong."""
    if video.ndim != 4 or video.shape[1] != 3 or 0 in video.shape or not video.is_floating_point():
        raise ReelignError(
            f"a video must be a float tensor (frames, 3, height, width), got {tuple(video.shape)} {video.dtype}",
            "Pass one video at a time, frames first, as floats in [0, 1].",
        )
    height, width = video.shape[-2:]
    if height % 2 or width % 2:
        raise ReelignError(
            f"an mp4 (yuv420p) needs an even height and width, got {height}x{width}",
            f"Crop or resize to {max(2, height - height % 2)}x{max(2, width - width % 2)}.",
        )
    low, high = video.min().item(), video.max().item()
    # A little overshoot is rounding; more is another range, such as [-1, 1], and clamping it would spoil the picture.
    if not (low >= -1e-2 and high <= 1 + 1e-2):
        raise ReelignError(
            f"a video's values must be in [0, 1], got {low:.3g} to {high:.3g}",
            "Rescale or clamp it before writing; NaN means that the model diverged.",
        )
    scaled = (video.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _rate(fps: float) -> Fraction:
    if not (math.isfinite(fps) and fps > 0):
        raise ReelignError(f"fps must be positive, got {fps}", "Use the model's own rate, such as 16 for Wan.")
    return Fraction(fps).limit_denominator(1001)  # 1001 holds the NTSC rates exactly


def _encode(path: Path, frames: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], rate: Fraction, crf: int) -> None:
    if not 0 <= crf <= 51:
        raise ReelignError(f"crf must be between 0 and 51, got {crf}", "12 is close to invisible, 23 is small.")
    # One thread and bitexact: x264's choices depend on its number of threads, and ffmpeg stamps its version and time.
    # No macroblock tree: on small frames it reads memory that nothing wrote, and one video becomes several files.
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    codec = {"crf": str(crf), "flags": "+bitexact", "x264-params": "mbtree=0"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        stream = container.add_stream("libx264", rate=rate, options=codec)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.thread_count = 1
        context.color_primaries = context.color_trc = BT709
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        # One for all frames: a frame's own would set up its conversion anew, which takes longer than converting.
        reformatter = VideoReformatter()
        for number, pixels in enumerate(frames):
            frame = reformatter.reformat(
                av.VideoFrame.from_ndarray(pixels, format="rgb24"),
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
                threads=1,
            )
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _decode(path: Path) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.uint8]], float]:
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise corrupt(path, "it has no video stream")
        stream = container.streams.video[0]
        if stream.codec_context is None:  # the description of the stream is damaged; PyAV's types do not know of it
            raise corrupt(path, "its codec is not known")
        # Without this the decoder guesses over damage that it notices; changed bytes that still parse it cannot notice.
        stream.codec_context.options = {"err_detect": "explode"}
        packets = 0
        frames = []
        reformatter = VideoReformatter()
        for packet in container.demux(stream):
            packets += packet.size > 0
            if packet.is_corrupt:
                raise corrupt(path, "a packet is incomplete")
            frames += [reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray() for frame in packet.decode()]
        # Past the end of a cut file the demuxer just stops; the index at the front still knows the true number.
        if packets < stream.frames:
            raise corrupt(path, f"it ends after {packets} of {stream.frames} frames")
        if not frames or stream.average_rate is None:
            raise corrupt(path, "it holds no frames")
        return np.stack(frames), float(stream.average_rate)


def corrupt(path: Path, reason: str) -> ReelignError:
    return ReelignError(f"{path} cannot be read as a video: {reason}", "Make or download the file again.")
