"""VAEs whose norms, attention or convolutions span the clip: one piece, whose blocks run again, and no flat memory."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from reelign.generators.decoding.video import Cache, VideoDecoder


class WholeDecoder(VideoDecoder):
    """A clip is one piece."""

    causal: ClassVar[bool] = True
    flat: bool = False

    def sizes(self, num_latents: int) -> list[int]:
        return [num_latents]

    def num_frames(self, size: int, *, first: bool) -> int:
        return (size - 1) * int(self.vae.temporal_compression_ratio) + 1

    def __call__(self, latents: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        return self.whole(latents), None
