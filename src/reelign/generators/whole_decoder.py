"""VAEs whose norms, attention or convolutions span the clip: one piece, whose blocks run again, and no flat memory."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from reelign.generators.video_decoder import Cache, VideoDecoder


class WholeDecoder(VideoDecoder):
    """HunyuanVideo's VAE (group norms and causal attention over all frames) and LTX-Video's (convolutions look ahead).

    Args:
        vae: the autoencoder.
        arguments: what its decode takes beside latents, such as LTX's `temb`.
    """

    vae_classes: ClassVar[tuple[str, ...]] = ("AutoencoderKLHunyuanVideo", "AutoencoderKLLTXVideo")
    block_classes: ClassVar[tuple[str, ...]] = (
        "HunyuanVideoResnetBlockCausal3D",
        "HunyuanVideoUpsampleCausal3D",
        "Attention",
        "LTXVideoResnetBlock3d",
        "LTXVideoUpsampler3d",
    )
    causal: ClassVar[bool] = True
    flat: bool = False

    def __init__(self, vae: Any, **arguments: Any) -> None:
        super().__init__(vae)
        self.arguments = arguments

    def sizes(self, num_latents: int) -> list[int]:
        return [num_latents]

    def num_frames(self, size: int, *, first: bool) -> int:
        return (size - 1) * int(self.vae.temporal_compression_ratio) + 1

    def __call__(self, latents: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        return self.whole(latents), None

    def whole(self, latents: Tensor) -> Tensor:
        pixels: Tensor = self.vae.decode(latents, return_dict=False, **self.arguments)[0]
        return pixels
