"""VAEs whose decoder hands on its caches itself, as nested dicts: CogVideoX's and Mochi's."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from reelign.generators.decoding.video import Cache, VideoDecoder

POINTWISE = ("conv_y", "conv_b")
"""Convolutions of a single frame inside CogVideoX's norms: their caches, as large as their inputs, are never read."""


class CogVideoXDecoder(VideoDecoder):
    """`AutoencoderKLCogVideoX` in diffusers' own pieces: two latent frames, an odd one with the first two.

    The norms' statistics are those of a piece, so the pieces are part of what the video looks like. A piece with an odd
    number of latent frames keeps its first one single.
    """

    vae_classes: ClassVar[tuple[str, ...]] = ("AutoencoderKLCogVideoX",)
    block_classes: ClassVar[tuple[str, ...]] = ("CogVideoXResnetBlock3D", "CogVideoXUpsample3D")
    causal: ClassVar[bool] = True

    def sizes(self, num_latents: int) -> list[int]:
        size = int(self.vae.num_latent_frames_batch_size)
        full, rest = divmod(num_latents, size)
        return [size + rest, *[size] * (full - 1)] if full else [num_latents]

    def num_frames(self, size: int, *, first: bool) -> int:
        stride = int(self.vae.config.temporal_compression_ratio)
        return (size - 1) * stride + 1 if size % 2 else size * stride

    def __call__(self, latents: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        if self.vae.post_quant_conv is not None:
            latents = self.vae.post_quant_conv(latents)
        pixels, found = self.vae.decoder(latents, conv_cache=cache)
        return pixels, without(found, POINTWISE)


class MochiDecoder(VideoDecoder):
    """`AutoencoderKLMochi` a latent frame at a time; diffusers decodes the clip at once, and drops the first frames.

    Its convolutions repeat the edge in time and space and keep no cache. Here they are told to repeat the first frame
    only where they have no cache, which is the same for a clip at once. (diffusers' own decoding in pieces sets
    "constant" alone and so loses the padding in space, for which the convolutions were not built.)
    """

    vae_classes: ClassVar[tuple[str, ...]] = ("AutoencoderKLMochi",)
    block_classes: ClassVar[tuple[str, ...]] = ("MochiResnetBlock3D",)
    causal: ClassVar[bool] = True

    def __init__(self, vae: Any) -> None:
        super().__init__(vae)
        for module in vae.decoder.modules():
            if type(module).__name__ == "CogVideoXCausalConv3d" and module.pad_mode == "replicate":
                keep_cache(module)

    def sizes(self, num_latents: int) -> list[int]:
        return [1] * num_latents

    def num_frames(self, size: int, *, first: bool) -> int:
        stride = int(self.vae.temporal_compression_ratio)
        return 1 if first and self.vae.drop_last_temporal_frames else size * stride

    def __call__(self, latents: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        pixels, found = self.vae.decoder(latents, conv_cache=cache)
        first = cache is None
        return pixels[:, :, pixels.shape[2] - self.num_frames(1, first=first) :], found


def keep_cache(conv: Any) -> None:
    """Let a convolution that repeats edges do so in space by itself, and in time only where it has no cache."""
    conv.pad_mode = "constant"
    inner, padding = conv.conv, (0, conv.height_pad, conv.width_pad)
    inner.padding, inner.padding_mode = padding, "replicate"
    # What torch's own constructor derives from the padding, for the modes that are not zeros.
    inner._reversed_padding_repeated_twice = [side for sides in reversed(padding) for side in (sides, sides)]


def without(cache: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Nested caches, those of these names left out."""
    return {
        name: without(entry, names) if isinstance(entry, dict) else entry
        for name, entry in cache.items()
        if name not in names
    }
