"""The gradient of a loss on decoded pixels with respect to latents: the reward's backward pass, then the decoder's.

The decoder is the memory wall of reward gradients: through Wan 2.1's VAE at 81 x 480 x 832 the plain way keeps 315
GiB of activations. Here the pixels are a leaf, so that reward and decoder never hold their graphs at once, and the
decoder's vector-Jacobian product is taken piece by piece (`staged_pieces`), in memory that does not grow with the clip
where the VAE's pieces allow it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.generators.base import Generator, to_video
from reelign.generators.decoding.video import Piece, VideoDecoder, places
from reelign.training.staged_clamp import Clamp, clamp_video
from reelign.training.staged_pieces import decode_in_pieces, decode_whole

Mode = Literal["reverse", "chunk", "whole", "window", "first"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeSettings:
    """How pixels are decoded for a loss, and how its gradient comes back."""

    mode: Mode = "reverse"
    """`reverse`, `chunk` and `whole` give the same, exact gradient: `reverse` piece by piece with caches in the host's
    memory and the decoder's blocks run again, `chunk` without either, `whole` with everything kept. `window` decodes
    all frames and lets the gradient through some latents alone, which leaves out what they do to later frames; `first`
    decodes the first latents alone."""
    clamp: Clamp = "straight_through"
    """How pixels are brought into [0, 1], and the gradient outside."""
    offload: bool | None = None
    """Keep the caches between pieces in the host's memory; None for yes with `reverse`."""
    checkpoint_blocks: bool | None = None
    """Run the decoder's blocks again in the backward pass: a third less speed, a fraction of a piece's memory. None for
    yes with `reverse`, and wherever the VAE has no pieces (LTX)."""
    frames: tuple[int, ...] | None = None
    """The frames that the loss sees, in this order, and no more pieces are decoded than they need; None for all."""
    window: tuple[int, int] | None = None
    """For `window`: the first latent frame that the gradient flows through, and the one after the last; pieces that
    reach into it count as a whole."""
    first: int = 1
    """For `first`: how many latent frames are decoded; the piece that holds the last of them is decoded to its end."""

    def __post_init__(self) -> None:
        if (self.mode == "window") != (self.window is not None):
            raise ValueError(
                f"window must be (start, stop) in latent frames with mode=window and left out otherwise, got "
                f"{self.window} with mode={self.mode}"
            )
        if self.first < 1:
            raise ValueError(f"first must be at least 1 latent frame, got {self.first}")


class DecodedGradient(NamedTuple):
    """What a loss on pixels says about latents."""

    loss: Tensor
    """() as the loss function gave it, detached."""
    latents: Tensor
    """(B, C, F', H', W') the loss's gradient with respect to the normalised latents, in their precision."""
    metrics: dict[str, float]
    """`decode/pieces`, `decode/graded_pieces`, and `decode/outside`: the share of pixel values outside [0, 1]."""


def decoded_gradient(
    generator: Generator, latents: Tensor, loss_of_pixels: Callable[[Tensor], Tensor], settings: DecodeSettings
) -> DecodedGradient:
    """Decode latents, take a loss on the video, and return the loss and its gradient with respect to the latents.

    Args:
        generator: its VAE decodes; its weights are loaded.
        latents: (B, C, F', H', W') normalised; a graph behind them is neither used nor freed.
        loss_of_pixels: from a video (B, F, 3, H, W), fp32, bounded as `settings.clamp` says, to a loss (); smaller is
            better. It is called once.
        settings: which frames, which gradient, and where memory goes.
    Raises:
        ReelignError: a frame or window outside the clip, a VAE without its weights, a loss that is no single number or
            does not depend on the pixels.
    """
    leaf = latents.detach().requires_grad_()
    with torch.enable_grad():
        raw = generator.unnormalised(leaf)
    loss, raw_gradient, metrics = decoder_gradient(generator.decoder, raw.detach(), loss_of_pixels, settings)
    (found,) = torch.autograd.grad(raw, leaf, raw_gradient)
    return DecodedGradient(loss, found, metrics)


@torch.no_grad()
def decoded(generator: Generator, latents: Tensor, settings: DecodeSettings) -> Tensor:
    """The video (B, F, 3, H, W) that `decoded_gradient` shows its loss, of all pieces that hold one of its frames.

    Args:
        generator, latents, settings: as there; a mode that leaves frames out is not looked at.
    Raises:
        ReelignError: a frame outside the clip.
    """
    raw, decoder = generator.unnormalised(latents), generator.decoder
    pieces = decoder.pieces_for(raw.shape[2], settings.frames)
    pixels, _ = decode_in_pieces(decoder, raw, pieces, graded=(), offload=False)
    if settings.frames is not None:
        pixels = pixels[:, :, places(pieces, settings.frames)]
    return clamp_video(to_video(pixels), settings.clamp)


def decoder_gradient(
    decoder: VideoDecoder, latents: Tensor, loss_of_pixels: Callable[[Tensor], Tensor], settings: DecodeSettings
) -> DecodedGradient:
    """`decoded_gradient` for a decoder alone: latents, and the gradient, are as the VAE takes them."""
    pieces, graded = chosen_pieces(decoder, latents.shape[2], settings)
    frames = settings.frames or [frame for piece in pieces for frame in piece.frames]
    staged = settings.mode == "reverse"
    again = settings.checkpoint_blocks if settings.checkpoint_blocks is not None else staged or not decoder.flat
    with decoder.running_again() if again else contextlib.nullcontext():
        if settings.mode == "whole":
            pixels, pull = decode_whole(decoder, latents, pieces)
        else:
            offload = staged if settings.offload is None else settings.offload
            pixels, pull = decode_in_pieces(decoder, latents, pieces, graded=graded, offload=offload)
        loss, gradient, outside = pixel_gradient(pixels, places(pieces, frames), loss_of_pixels, settings.clamp)
        del pixels
        found = pull(gradient)
    counts = {"decode/pieces": len(pieces), "decode/graded_pieces": len(graded), "decode/outside": outside}
    return DecodedGradient(loss, found, {name: float(count) for name, count in counts.items()})


def chosen_pieces(decoder: VideoDecoder, num_latents: int, settings: DecodeSettings) -> tuple[list[Piece], list[Piece]]:
    """The pieces that are decoded, and those of them that the gradient flows through.

    Raises:
        ReelignError: the window, the first latents or a frame are outside what there is.
    """
    if settings.mode == "window" and settings.window is not None:
        start, stop = settings.window
        if not 0 <= start < stop <= num_latents:
            raise ReelignError(
                f"The window {start}..{stop} is outside the clip, which has {num_latents} latent frames.",
                f"Choose 0 <= start < stop <= {num_latents}.",
            )
        pieces = decoder.pieces_for(num_latents, settings.frames)
        graded = [piece for piece in pieces if piece.latents.start < stop and piece.latents.stop > start]
        if not graded:
            raise ReelignError(
                f"The window {start}..{stop} holds none of the latents that frames {settings.frames} are decoded from.",
                "Choose a window up to the last of the frames, or leave out the frames.",
            )
        return pieces, graded
    if settings.mode != "first":
        pieces = decoder.pieces_for(num_latents, settings.frames)
        return pieces, pieces
    if settings.first > num_latents:
        raise ReelignError(
            f"The first {settings.first} latent frames are asked for, and the clip has {num_latents}.",
            f"Choose first <= {num_latents}.",
        )
    pieces = [piece for piece in decoder.pieces(num_latents) if piece.latents.start < settings.first]
    reached = pieces[-1].frames.stop
    if settings.frames is not None and not all(0 <= frame < reached for frame in settings.frames):
        raise ReelignError(
            f"Of the frames {settings.frames}, the first {settings.first} latent frames hold 0 to {reached - 1} alone.",
            "Leave out frames, or decode more latents.",
        )
    return pieces, pieces


def pixel_gradient(
    pixels: Tensor, places: Sequence[int], loss_of_pixels: Callable[[Tensor], Tensor], clamp: Clamp
) -> tuple[Tensor, Tensor, float]:
    """The loss, its gradient with respect to a decoder's pixels (B, 3, F, H, W), and the share of values outside."""
    leaf = pixels.detach().requires_grad_()
    with torch.enable_grad():
        video = to_video(leaf if list(places) == list(range(leaf.shape[2])) else leaf[:, :, list(places)])
        outside = float(((video < 0) | (video > 1)).float().mean().detach())
        loss = loss_of_pixels(clamp_video(video, clamp))
        del video
    if loss.numel() != 1:
        raise ReelignError(
            f"A loss on pixels must be one number, got {tuple(loss.shape)}.", "Take the mean over the videos."
        )
    if loss.requires_grad:
        (gradient,) = torch.autograd.grad(loss.sum(), leaf, allow_unused=True)
        if gradient is not None:
            return loss.detach().reshape(()), gradient, outside
    raise ReelignError(
        "The loss has no gradient with respect to the pixels: somewhere the reward detaches what it is given.",
        "Use a reward that is differentiable.",
    )
