"""Which decoder in pieces a VAE has."""

from __future__ import annotations

from typing import Any

from reelign.errors import ReelignError
from reelign.generators.decoding.cached import CogVideoXDecoder, MochiDecoder
from reelign.generators.decoding.frames import FrameDecoder, FrameGroupDecoder
from reelign.generators.decoding.hunyuan import HunyuanVideoDecoder
from reelign.generators.decoding.hunyuan15 import HunyuanVideo15Decoder
from reelign.generators.decoding.ltx import LTXDecoder
from reelign.generators.decoding.video import VideoDecoder
from reelign.generators.decoding.wan import WanDecoder
from reelign.generators.opensora.decoder import OpenSoraDecoder

DECODERS: dict[str, type[VideoDecoder]] = {
    name: decoder
    for decoder in (
        *(WanDecoder, CogVideoXDecoder, MochiDecoder),
        *(FrameDecoder, FrameGroupDecoder, LTXDecoder),
        *(HunyuanVideoDecoder, HunyuanVideo15Decoder, OpenSoraDecoder),
    )
    for name in decoder.vae_classes
}
"""Class name of the diffusers VAE -> its decoder in pieces."""


def decoder_of(vae: Any, **settings: Any) -> VideoDecoder:
    """The decoder of a diffusers VAE in pieces along time.

    Args:
        vae: the autoencoder, with its weights.
        settings: what the decoder's class takes beside it, such as `frames_per_piece`.
    Raises:
        ReelignError: no decoder here knows the VAE's class.
    """
    name = type(vae).__name__
    if name not in DECODERS:
        raise ReelignError(
            f"{name} is a VAE whose decoder reelign cannot take apart.", f"It knows {', '.join(sorted(DECODERS))}."
        )
    return DECODERS[name](vae, **settings)
