"""LTX-Video's VAE: one piece, as its convolutions look ahead; from 0.9.1 on told a timestep and given noise."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from reelign.generators.decoding.whole import WholeDecoder

DECODE_SEED = 0
"""Of the noise in a decode."""


class LTXDecoder(WholeDecoder):
    """`AutoencoderKLLTXVideo`.

    0.9.1's blocks add noise drawn from torch's global generator; here it is the same at every decode, and the global
    generator is left as it was.

    Args:
        vae: the autoencoder.
        timestep: in [0, 1], what a timestep-conditioned VAE is told of its latents; another VAE is told nothing.
    """

    vae_classes: ClassVar[tuple[str, ...]] = ("AutoencoderKLLTXVideo",)
    block_classes: ClassVar[tuple[str, ...]] = ("LTXVideoResnetBlock3d", "LTXVideoUpsampler3d")

    def __init__(self, vae: Any, timestep: float = 0.0) -> None:
        super().__init__(vae)
        self.timestep = timestep

    def whole(self, latents: Tensor) -> Tensor:
        told = self.vae.config.timestep_conditioning
        temb = latents.new_full((len(latents),), self.timestep) if told else None
        with torch.random.fork_rng(devices=[latents.device] if latents.is_cuda else []):
            torch.manual_seed(DECODE_SEED)
            pixels: Tensor = self.vae.decode(latents, temb, return_dict=False)[0]
        return pixels
