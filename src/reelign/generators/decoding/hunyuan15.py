"""HunyuanVideo 1.5's VAE (`AutoencoderKLHunyuanVideo15`) a latent frame at a time; diffusers decodes the clip at once.

Facts that matter here (diffusers 0.42.1): the norms are of single places, so that a frame sees others through causal
convolutions, which repeat the clip's first frame before it, and through one causal attention over all frames before it;
what doubles frames takes the clip's first one single. At once that attention has a mask of as many rows and columns as
the clip has latent places, 9.7 GB for 121 frames of 480 x 848; here the keys and values of earlier frames are a cache.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reelign.generators.checkpointing import run_again
from reelign.generators.decoding.video import Cache, VideoDecoder

Slots = list[Tensor | None]
"""What a block kept of the piece before, None each before the first; each block has as many as `STEPS` says."""


class HunyuanVideo15Decoder(VideoDecoder):
    """Pieces of one latent frame: the first becomes one frame, the others as many as the VAE's temporal stride."""

    vae_classes: ClassVar[tuple[str, ...]] = ("AutoencoderKLHunyuanVideo15",)
    block_classes: ClassVar[tuple[str, ...]] = (
        "HunyuanVideo15ResnetBlock",
        "HunyuanVideo15Upsample",
        "HunyuanVideo15AttnBlock",
    )
    causal: ClassVar[bool] = True

    def sizes(self, num_latents: int) -> list[int]:
        return [1] * num_latents

    def num_frames(self, size: int, *, first: bool) -> int:
        return 1 if first else int(self.vae.temporal_compression_ratio)

    def whole(self, latents: Tensor) -> Tensor:
        if self.vae.use_tiling:
            return super().whole(latents)
        return self.chain(latents, self.pieces(latents.shape[2]))

    def __call__(self, latents: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        decoder = self.vae.decoder
        given: Slots = [] if cache is None else list(cache)
        found: list[Tensor] = []

        def run(block: nn.Module, hidden: Tensor) -> Tensor:
            count, step = STEPS[type(block).__name__]
            slots = given[len(found) : len(found) + count] or [None] * count
            # A block that runs again has its own forward.
            hidden, *kept = vars(block).get("forward", functools.partial(step, block))(hidden, *slots)
            found.extend(kept)
            return hidden

        hidden = run(decoder.conv_in, latents) + latents.repeat_interleave(repeats=decoder.repeat, dim=1)
        middle = decoder.mid_block
        hidden = run(middle.resnets[0], hidden)
        for attention, resnet in zip(middle.attentions, middle.resnets[1:], strict=True):
            hidden = run(resnet, run(attention, hidden))
        for up_block in decoder.up_blocks:
            for block in (*up_block.resnets, *(up_block.upsamplers or ())):
                hidden = run(block, hidden)
        pixels = run(decoder.conv_out, decoder.conv_act(decoder.norm_out(hidden)))
        return pixels, found

    def again(self, block: nn.Module) -> Callable[..., Any]:
        return functools.partial(run_again, functools.partial(STEPS[type(block).__name__][1], block))


def convolved(conv: Any, hidden: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
    """A causal convolution of a piece behind the frames that it saw last; the first frame repeated where there are
    none. Returns those that the next piece needs too."""
    width, height, depth = (conv.time_causal_padding[place] for place in (0, 2, 4))
    if before is None:
        before = hidden[:, :, :1].expand(-1, -1, depth, -1, -1)
    seen = torch.cat([before, hidden], dim=2)
    padded = F.pad(seen, (width, width, height, height, 0, 0), mode=conv.pad_mode)
    return conv.conv(padded), seen[:, :, seen.shape[2] - depth :]


def resnet(block: Any, hidden: Tensor, first: Tensor | None, second: Tensor | None) -> tuple[Tensor, ...]:
    """Two convolutions behind norms, beside a shortcut."""
    inner, first = convolved(block.conv1, block.nonlinearity(block.norm1(hidden)), first)
    inner, second = convolved(block.conv2, block.nonlinearity(block.norm2(inner)), second)
    return inner + (hidden if block.conv_shortcut is None else block.conv_shortcut(hidden)), first, second


def attention(block: Any, hidden: Tensor, keys: Tensor | None, values: Tensor | None) -> tuple[Tensor, ...]:
    """One head's attention of a latent frame to itself and all before it."""
    normed = block.norm(hidden)
    query, key, value = (_places(layer(normed)) for layer in (block.to_q, block.to_k, block.to_v))
    key = key if keys is None else torch.cat([keys, key], dim=1)
    value = value if values is None else torch.cat([values, value], dim=1)
    found = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
    return block.proj_out(found.transpose(1, 2).reshape(hidden.shape)) + hidden, key, value


def upsample(block: Any, hidden: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
    """Channels become pixels, and frames too where the block doubles them, but not of the clip's first frame."""
    inner, kept = convolved(block.conv, hidden, before)
    spread = block._dcae_upsample_rearrange
    if not block.add_temporal_upsample:
        return spread(inner, r1=1) + spread(hidden.repeat_interleave(block.repeats, dim=1), r1=1), kept
    if before is None:
        # Of the two frames that the channels hold, the first frame of a clip takes one.
        inner = spread(inner, r1=1)
        shortcut = spread(hidden, r1=1).repeat_interleave(block.repeats // 2, dim=1)
        return inner[:, : inner.shape[1] // 2] + shortcut, kept
    return spread(inner, r1=2) + spread(hidden, r1=2).repeat_interleave(block.repeats, dim=1), kept


def _places(tensor: Tensor) -> Tensor:
    """(B, C, F, H, W) -> (B, F·H·W, C)."""
    return tensor.flatten(2).transpose(1, 2)


STEPS: dict[str, tuple[int, Callable[..., Any]]] = {
    "HunyuanVideo15CausalConv3d": (1, convolved),
    "HunyuanVideo15ResnetBlock": (2, resnet),
    "HunyuanVideo15AttnBlock": (2, attention),
    "HunyuanVideo15Upsample": (1, upsample),
}
"""Slots and forward of each block's class."""
