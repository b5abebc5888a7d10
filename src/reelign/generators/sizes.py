"""Sizes of clips and of their latents, as families over one kind of VAE or another say them alike."""

from __future__ import annotations

from reelign.generators.defaults import VideoSize


def nearest_size(size: VideoSize, *, step: int, stride: int = 1) -> VideoSize:
    """The nearest size of stride·k + 1 frames, k from 0 on, whose sides are multiples of `step` pixels."""
    return VideoSize(
        num_frames=max(0, round((size.num_frames - 1) / stride)) * stride + 1,
        height=max(1, round(size.height / step)) * step,
        width=max(1, round(size.width / step)) * step,
    )


def causal_shape(size: VideoSize, *, channels: int, stride: int, side: int) -> tuple[int, int, int, int]:
    """(C, F, H, W) of a causal VAE's latents: the first frame's own, then one for each `stride` frames; `side` pixels
    of a side to a latent."""
    return channels, (size.num_frames - 1) // stride + 1, size.height // side, size.width // side
