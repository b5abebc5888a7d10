"""Open-Sora 1.2's VAE a chunk at a time: 5 latent frames become 17 frames, and chunks do not see each other."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from reelign.generators.decoding.video import Cache, VideoDecoder


class OpenSoraDecoder(VideoDecoder):
    """`OpenSoraVAE`; memory is that of one chunk, and one chunk's frames are all that a single frame needs."""

    vae_classes: ClassVar[tuple[str, ...]] = ("OpenSoraVAE",)
    block_classes: ClassVar[tuple[str, ...]] = ("TemporalResBlock", "ResnetBlock2D", "Attention", "Upsample2D")
    causal: ClassVar[bool] = False

    def sizes(self, num_latents: int) -> list[int]:
        whole, rest = divmod(num_latents, self.vae.chunk_latents)
        return [self.vae.chunk_latents] * whole + [rest] * (rest > 0)

    def num_frames(self, size: int, *, first: bool) -> int:
        return int(self.vae.num_frames(size))

    def __call__(self, latents: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        return self.whole(latents), None
