"""A decode and its vector-Jacobian product, the graph of one piece alive at a time.

First all frames are made without gradients, and what passes from piece to piece (the cache) is kept. Later, given the
loss's gradient with respect to the pixels, the pieces run once more with gradients, from the last to the first:

    (g_latents[i], g_cache[i]) = J(latents[i], cache[i])ᵀ (g_pixels[i], g_cache[i + 1])

This is the chain rule of the plain decode and no approximation: the gradient crosses every border through the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from reelign.generators.decoding.video import Cache, Piece, VideoDecoder

Pullback = Callable[[Tensor], Tensor]
"""The loss's gradient with respect to the pixels -> that with respect to the latents."""


def decode_whole(decoder: VideoDecoder, latents: Tensor, pieces: Sequence[Piece]) -> tuple[Tensor, Pullback]:
    """Pixels (B, 3, F, H, W) of the pieces in one graph, and its gradient: the plain way, memory grows with F."""
    leaf = latents.detach().requires_grad_()
    with torch.enable_grad():
        pixels = decoder.chain(leaf, pieces)

    def pull(gradient: Tensor) -> Tensor:
        return torch.autograd.grad(pixels, leaf, gradient)[0]

    return pixels.detach(), pull


def decode_in_pieces(
    decoder: VideoDecoder, latents: Tensor, pieces: Sequence[Piece], *, graded: Sequence[Piece], offload: bool
) -> tuple[Tensor, Pullback]:
    """The same pixels, and a gradient that holds one piece's graph at a time.

    Args:
        decoder: the VAE's.
        latents: (B, C, F', H, W) as the VAE takes them.
        pieces: what is decoded, in order; a causal VAE's from the first on.
        graded: neighbouring pieces of these that the gradient flows through. All give the exact gradient; fewer cut
            it at their borders: pieces before get none, and what pieces after say of them is dropped.
        offload: keep caches in the host's memory.
    """
    kept = set(graded)
    caches: dict[Piece, Cache] = {}
    joined: Tensor | None = None
    starts = _starts(pieces)
    cache: Cache = None
    with torch.no_grad():
        for piece in pieces:
            if piece in kept:
                caches[piece] = to_host(cache) if offload else cache
            part, cache = decoder(_part(latents, piece), cache if decoder.causal else None)
            if joined is None:
                frames = sum(len(each.frames) for each in pieces)
                joined = part.new_empty(*part.shape[:2], frames, *part.shape[3:])
            joined[:, :, starts[piece] : starts[piece] + len(piece.frames)] = part
    assert joined is not None

    def pull(gradient: Tensor) -> Tensor:
        found = torch.zeros_like(latents)
        later: list[Tensor | None] = []
        for piece in sorted(kept, key=lambda piece: piece.latents.start, reverse=True):
            start = starts[piece]
            own = gradient[:, :, start : start + len(piece.frames)]
            given = to_device(caches.pop(piece), latents.device)
            inner, later = _pulled(decoder, _part(latents, piece), given, own, later)
            found[:, :, piece.latents.start : piece.latents.stop] = inner
        return found

    return joined, pull


def _pulled(
    decoder: VideoDecoder, latents: Tensor, cache: Cache, gradient: Tensor, later: list[Tensor | None]
) -> tuple[Tensor, list[Tensor | None]]:
    """One piece forward and backward: the gradients of its latents and of the tensors in its cache."""
    leaf = latents.detach().requires_grad_()
    entries, spec = tree_flatten(cache)
    entries = [entry.detach().requires_grad_() if isinstance(entry, Tensor) else entry for entry in entries]
    with torch.enable_grad():
        read = [_compact(entry) if isinstance(entry, Tensor) else entry for entry in entries]
        pixels, handed_on = decoder(leaf, tree_unflatten(read, spec))
    pairs: list[tuple[Tensor, Tensor]] = [(pixels, gradient.to(pixels.dtype))]
    if later:
        pairs += [(out, each) for out, each in zip(_tensors(handed_on), later, strict=True) if each is not None]
    del handed_on
    inputs = [leaf, *_tensors(entries)]
    found = torch.autograd.grad([output for output, _ in pairs], inputs, [each for _, each in pairs], allow_unused=True)
    return found[0], list(found[1:])


class _Compact(torch.autograd.Function):
    """The identity. A convolution joins its cache and its frames, and the gradient of the cache is then a view that
    keeps the whole join's: here it is copied out, a third of the bytes, and waits for the next piece as that."""

    @staticmethod
    def forward(ctx: Any, entry: Tensor) -> Tensor:
        return entry.view_as(entry)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        (gradient,) = gradients
        whole: bool = gradient.untyped_storage().nbytes() <= gradient.nbytes
        found: Tensor = gradient if whole else gradient.clone()
        return found


def _compact(entry: Tensor) -> Tensor:
    found: Tensor = _Compact.apply(entry)  # type: ignore[no-untyped-call]
    return found


def _part(latents: Tensor, piece: Piece) -> Tensor:
    return latents[:, :, piece.latents.start : piece.latents.stop]


def _starts(pieces: Sequence[Piece]) -> dict[Piece, int]:
    """Where each piece's frames begin among the joined ones."""
    starts, reached = {}, 0
    for piece in pieces:
        starts[piece] = reached
        reached += len(piece.frames)
    return starts


def _tensors(cache: Cache) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(cache)[0] if isinstance(leaf, Tensor)]


def to_host(cache: Cache) -> Cache:
    """A cache in the host's memory; on the CPU it stays as it is."""
    return tree_map_only(Tensor, lambda tensor: _on(tensor, torch.device("cpu")), cache)


def to_device(cache: Cache, device: torch.device) -> Cache:
    """A cache where it is computed with; there already, it stays as it is."""
    return tree_map_only(Tensor, lambda tensor: _on(tensor, device), cache)


def _on(tensor: Tensor, device: torch.device) -> Tensor:
    if tensor.device == device:
        return tensor
    if tensor.is_cuda and device.type == "cpu":
        # Pinned, so that the copy runs beside the kernels; the way back waits for it on the same stream.
        return torch.empty_like(tensor, device=device, pin_memory=True).copy_(tensor, non_blocking=True)
    return tensor.to(device, non_blocking=True)
