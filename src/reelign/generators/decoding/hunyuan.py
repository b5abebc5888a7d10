"""HunyuanVideo's VAE (`AutoencoderKLHunyuanVideo`) a tile along time at a time, as diffusers decodes it.

Facts that matter here (diffusers 0.42.1): norms and causal attention span all frames that are decoded together, so a
clip of more than 4 latent frames is decoded in tiles of 5 that begin 3 after each other. Each tile's first frame, but
for the clip's, is dropped, 12 frames are taken, and the 4 behind them fade into the first of the next tile. The tiles
are part of what the video looks like: it is not what the layers make of all frames at once.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from reelign.generators.decoding.video import Cache, VideoDecoder


class HunyuanVideoDecoder(VideoDecoder):
    """A piece is a tile; of its latents it takes those that the tile before has not seen, at the end maybe none.

    Args:
        vae: the autoencoder.
        hidden: frames at a clip's beginning that are decoded and not shown, fewer than its first tile has.
    """

    vae_classes: ClassVar[tuple[str, ...]] = ("AutoencoderKLHunyuanVideo",)
    block_classes: ClassVar[tuple[str, ...]] = (
        "HunyuanVideoResnetBlockCausal3D",
        "HunyuanVideoUpsampleCausal3D",
        "Attention",
    )
    causal: ClassVar[bool] = True

    def __init__(self, vae: Any, *, hidden: int = 0) -> None:
        super().__init__(vae)
        self.hidden = hidden

    def whole(self, latents: Tensor) -> Tensor:
        return super().whole(latents)[:, :, self.hidden :]

    @property
    def flat(self) -> bool:  # type: ignore[override]
        """Without tiles the whole clip is one piece, and then memory grows with it."""
        return bool(self.vae.use_framewise_decoding)

    @property
    def ratio(self) -> int:
        """Frames of a latent frame."""
        return int(self.vae.temporal_compression_ratio)

    @property
    def length(self) -> int:
        """Latent frames of a tile."""
        return int(self.vae.tile_sample_min_num_frames) // self.ratio + 1

    @property
    def stride(self) -> int:
        """Latent frames from a tile's first to the next one's."""
        return int(self.vae.tile_sample_stride_num_frames) // self.ratio

    def sizes(self, num_latents: int) -> list[int]:
        if not self.flat or num_latents < self.length:
            return [num_latents]
        # A tile of a single latent frame would have none to show: its first is dropped.
        starts = range(0, num_latents - 1, self.stride)
        ends = [min(start + self.length, num_latents) for start in starts]
        return [end - before for before, end in zip([0, *ends], ends, strict=False)]

    def num_frames(self, size: int, *, first: bool) -> int:
        if not first:
            return min((size + self.length - self.stride - 1) * self.ratio, self.stride * self.ratio)
        frames = (size - 1) * self.ratio + 1
        return (frames if not self.flat or size < self.length else self.stride * self.ratio + 1) - self.hidden

    def __call__(self, latents: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        first = cache is None
        tile = latents if first else torch.cat([cache[0], latents], dim=2)
        pixels: Tensor = self.vae.decoder(self.vae.post_quant_conv(tile))
        if not first:
            pixels = faded(cache[1], pixels[:, :, 1:])
        begin = self.hidden if first else 0
        end = begin + self.num_frames(latents.shape[2], first=first)
        # Of a clip's only or last tile nothing is left for a next one.
        overlap = self.length - 1 - self.stride
        return pixels[:, :, begin:end], (tile[:, :, self.stride :], pixels[:, :, -overlap * self.ratio :])


def faded(before: Tensor, after: Tensor) -> Tensor:
    """Frames `after` (B, 3, F, H, W), the first of them mixed with those that the tile before has at the same time.

    The share of frame x of n is x / n, so that the first is the earlier tile's alone.
    """
    count = min(before.shape[2], after.shape[2])
    share = (torch.arange(count, device=after.device, dtype=after.dtype) / count).view(-1, 1, 1)
    mixed = before[:, :, before.shape[2] - count :] * (1 - share) + after[:, :, :count] * share
    return torch.cat([mixed, after[:, :, count:]], dim=2)
