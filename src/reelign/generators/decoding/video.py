"""A VAE's decoder cut along time: pieces of latents in, pixels out, and between two pieces what the later one reads.

A causal decoder looks back through its temporal convolutions alone, so a clip decodes piece by piece with the last
frames that each convolution saw: its cache. diffusers keeps caches inside the VAE, where a gradient cannot be taken one
piece at a time; here they are inputs and outputs, and every piece is a pure function of latents and cache.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.generators.checkpointing import run_again

Cache = Any
"""Nested lists and dicts of tensors, and of marks that are none; None before the first piece."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What is decoded at a time."""

    latents: range
    """Latent frames that go in."""
    frames: range
    """Frames of the video that come out."""


class VideoDecoder(abc.ABC):
    """One subclass per kind of VAE; the pieces' frames, joined, are those of diffusers' own `vae.decode`.

    Args:
        vae: a diffusers autoencoder of one of `vae_classes`.
    """

    vae_classes: ClassVar[tuple[str, ...]]
    """Names of the diffusers classes this file covers."""
    block_classes: ClassVar[tuple[str, ...]]
    """Names of the decoder's block classes that are worth running again."""
    causal: ClassVar[bool]
    """Whether a piece reads the pieces before it; if not, pieces are independent."""
    flat: bool = True
    """Whether memory stays the same for any number of frames; False where the whole clip is one piece."""

    def __init__(self, vae: Any) -> None:
        self.vae = vae

    @abc.abstractmethod
    def sizes(self, num_latents: int) -> list[int]:
        """Latent frames of each piece of a clip of `num_latents` latent frames."""

    @abc.abstractmethod
    def num_frames(self, size: int, *, first: bool) -> int:
        """Frames that a piece of `size` latent frames becomes; the first piece of a clip may give fewer."""

    @abc.abstractmethod
    def __call__(self, latents: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Decode one piece.

        Args:
            latents: (B, C, f, H, W) as the VAE takes them (`Generator.unnormalised`).
            cache: what the piece before gave, unchanged here; None for a clip's first piece.
        Returns:
            Pixels (B, 3, F, H, W), about [-1, 1], before any clamp; and the cache for the next piece.
        """

    def whole(self, latents: Tensor) -> Tensor:
        """Pixels (B, 3, F, H, W) by diffusers' own decode, its clamp included."""
        pixels: Tensor = self.vae.decode(latents, return_dict=False)[0]
        return pixels

    def pieces(self, num_latents: int) -> list[Piece]:
        """The pieces of a clip of `num_latents` latent frames, in order.

        Raises:
            ReelignError: the VAE decodes in tiles, whose blended seams no piece would show.
        """
        if getattr(self.vae, "use_tiling", False):
            raise ReelignError(
                f"The {type(self.vae).__name__} decodes in tiles, which has no exact pieces along time.",
                "Call disable_tiling() on the pipeline's VAE: the pieces take less memory than the tiles.",
            )
        found: list[Piece] = []
        latents = frames = 0
        for size in self.sizes(num_latents):
            count = self.num_frames(size, first=not found)
            found.append(Piece(range(latents, latents + size), range(frames, frames + count)))
            latents, frames = latents + size, frames + count
        return found

    def pieces_for(self, num_latents: int, frames: Sequence[int] | None) -> list[Piece]:
        """The pieces that must be decoded to see these frames; all for None.

        Raises:
            ReelignError: a frame that the clip does not have, or none at all.
        """
        pieces = self.pieces(num_latents)
        if frames is None:
            return pieces
        count = pieces[-1].frames.stop
        absent = [frame for frame in frames if not 0 <= frame < count]
        if absent or not frames:
            what = f"Frame {absent[0]} is outside the clip" if absent else "No frames are asked for"
            raise ReelignError(f"{what}, whose frames are 0 to {count - 1}.", "Ask for frames that the clip has.")
        if self.causal:
            last = max(frames)
            return [piece for piece in pieces if piece.frames.start <= last]
        return [piece for piece in pieces if any(frame in piece.frames for frame in frames)]

    def chain(self, latents: Tensor, pieces: Sequence[Piece]) -> Tensor:
        """The pixels (B, 3, F, H, W) of these pieces, joined, in one graph; a causal clip needs its first piece."""
        cache: Cache = None
        pixels = []
        for piece in pieces:
            part, cache = self(latents[:, :, piece.latents.start : piece.latents.stop], cache)
            pixels.append(part)
        return torch.cat(pixels, dim=2)

    def frames(self, latents: Tensor, frames: Sequence[int]) -> Tensor:
        """The pixels (B, 3, len(frames), H, W) of these frames, in this order, from no more pieces than they need."""
        pieces = self.pieces_for(latents.shape[2], frames)
        return self.chain(latents, pieces)[:, :, places(pieces, frames)]

    @contextlib.contextmanager
    def running_again(self, half: str = "decoder") -> Iterator[None]:
        """In the block, the decoder's blocks keep their inputs alone and run again in the backward pass; or those of
        the VAE's other `half`, `encoder`, of the same classes."""
        parts = getattr(self.vae, half).modules()
        blocks = [block for block in parts if type(block).__name__ in self.block_classes]
        before = [vars(block).get("forward") for block in blocks]
        for block in blocks:
            # In place, not wrapped in a module of torch's: that would rename every parameter.
            block.forward = self.again(block)
        try:
            yield
        finally:
            for block, forward in zip(blocks, before, strict=True):
                del block.forward
                if forward is not None:
                    block.forward = forward

    def again(self, block: nn.Module) -> Callable[..., Any]:
        """The block's forward, run again in the backward pass."""
        forward = block.forward

        def checkpointed(*inputs: Any, **settings: Any) -> Any:
            return run_again(forward, *inputs, **settings)

        return checkpointed


def places(pieces: Sequence[Piece], frames: Sequence[int]) -> list[int]:
    """Where these frames of the video stand among the joined frames of the pieces."""
    decoded = [frame for piece in pieces for frame in piece.frames]
    place = {frame: index for index, frame in enumerate(decoded)}
    return [place[frame] for frame in frames]
