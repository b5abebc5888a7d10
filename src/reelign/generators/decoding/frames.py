"""VAEs that decode frames alone or in groups that do not see each other: pieces without a cache."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.generators.decoding.video import Cache, VideoDecoder


class FrameDecoder(VideoDecoder):
    """Stable Diffusion's VAE of single frames (`AutoencoderKL`: ModelScope, AnimateDiff, VideoCrafter).

    Args:
        vae: the autoencoder.
        frames_per_piece: frames decoded at a time, None for all of them; another number gives the same values.
    """

    vae_classes: ClassVar[tuple[str, ...]] = ("AutoencoderKL",)
    block_classes: ClassVar[tuple[str, ...]] = ("ResnetBlock2D", "Attention", "Upsample2D")
    causal: ClassVar[bool] = False

    def __init__(self, vae: Any, frames_per_piece: int | None = 1) -> None:
        super().__init__(vae)
        if frames_per_piece is not None and frames_per_piece < 1:
            raise ReelignError(
                f"frames_per_piece must be at least 1, got {frames_per_piece}.", "Decode 1 or more frames at a time."
            )
        self.frames_per_piece = frames_per_piece
        self.flat = frames_per_piece is not None

    def sizes(self, num_latents: int) -> list[int]:
        size = self.frames_per_piece or num_latents
        full, rest = divmod(num_latents, size)
        return [size] * full + [rest] * (rest > 0)

    def num_frames(self, size: int, *, first: bool) -> int:
        return size

    def __call__(self, latents: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        return self.whole(latents), None

    def whole(self, latents: Tensor) -> Tensor:
        frames = latents.transpose(1, 2)
        pixels: Tensor = self.vae.decode(frames.flatten(0, 1), return_dict=False, **self.arguments(frames))[0]
        videos: Tensor = pixels.unflatten(0, frames.shape[:2]).transpose(1, 2)
        return videos

    def arguments(self, frames: Tensor) -> dict[str, Any]:
        """What this VAE's decode takes beside frames (B, F, C, H, W), flattened."""
        return {}


class FrameGroupDecoder(FrameDecoder):
    """Stable Video Diffusion's VAE (`AutoencoderKLTemporalDecoder`), whose convolutions and norms span a group.

    Groups do not see each other, so `frames_per_piece` is part of what the video looks like: the pipeline's
    `decode_chunk_size`, by default all frames at once, and then memory is not flat.
    """

    vae_classes: ClassVar[tuple[str, ...]] = ("AutoencoderKLTemporalDecoder",)
    block_classes: ClassVar[tuple[str, ...]] = ("SpatioTemporalResBlock", "Attention", "Upsample2D")

    def __init__(self, vae: Any, frames_per_piece: int | None = None) -> None:
        super().__init__(vae, frames_per_piece)

    def __call__(self, latents: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        return super().whole(latents), None

    def whole(self, latents: Tensor) -> Tensor:
        groups = latents.split(self.sizes(latents.shape[2]), dim=2)
        return torch.cat([self(group, None)[0] for group in groups], dim=2)

    def arguments(self, frames: Tensor) -> dict[str, Any]:
        """How many of the frames (B, F, ...) are one clip's: the decoder looks over all of them."""
        return {"num_frames": frames.shape[1]}
