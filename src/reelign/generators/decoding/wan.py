"""Wan's VAE (`AutoencoderKLWan`, of Wan 2.1 and 2.2) a latent frame at a time.

Facts that matter here (diffusers 0.42.1): the decoder takes one latent frame at a time with a list of caches, one slot
for each causal convolution of more than one frame, which it changes in place; a slot is None before the first piece,
and that of a convolution which doubles frames is the text "Rep" after it, for it passes the first frame by; the slots
of the other convolutions hold the last two frames each saw.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from reelign.generators.checkpointing import run_again
from reelign.generators.decoding.video import Cache, VideoDecoder

SLOTS = {"WanResidualBlock": 2, "WanResample": 1}
"""Caches of the blocks that are worth running again."""
OVER_TIME = ("upsample3d", "downsample3d")
"""Modes of a `WanResample` that has a cache."""


class WanDecoder(VideoDecoder):
    """Pieces of one latent frame: the first becomes one frame, the others as many as the VAE's temporal stride."""

    vae_classes: ClassVar[tuple[str, ...]] = ("AutoencoderKLWan",)
    block_classes: ClassVar[tuple[str, ...]] = (*SLOTS, "WanAttentionBlock")
    causal: ClassVar[bool] = True

    def sizes(self, num_latents: int) -> list[int]:
        return [1] * num_latents

    def num_frames(self, size: int, *, first: bool) -> int:
        return 1 if first else int(self.vae.config.scale_factor_temporal)

    def __call__(self, latents: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

        first = cache is None
        slots = [None] * self.vae._cached_conv_counts["decoder"] if first else list(cache)
        hidden = self.vae.post_quant_conv(latents)
        pixels: Tensor = self.vae.decoder(hidden, feat_cache=slots, feat_idx=[0], first_chunk=first)
        if self.vae.config.patch_size is not None:
            pixels = unpatchify(pixels, patch_size=self.vae.config.patch_size)
        return pixels, slots

    def again(self, block: nn.Module) -> Callable[..., Any]:
        """As the base class's, for blocks whose forward takes the temporal caches and writes into them."""
        if type(block).__name__ not in SLOTS or getattr(block, "mode", OVER_TIME[0]) not in OVER_TIME:
            return super().again(block)
        count, forward = SLOTS[type(block).__name__], block.forward

        def pure(hidden: Tensor, *slots: Any) -> tuple[Any, ...]:
            given = list(slots)
            return (forward(hidden, given, [0]), *given)

        def checkpointed(hidden: Tensor, feat_cache: list[Any], feat_idx: list[int]) -> Any:
            # The block changes its caches in place; a forward that runs again must find them as they were.
            own = slice(feat_idx[0], feat_idx[0] + count)
            found, *feat_cache[own] = run_again(pure, hidden, *feat_cache[own])
            feat_idx[0] += count
            return found

        return checkpointed
