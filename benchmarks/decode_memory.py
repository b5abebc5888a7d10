"""Memory and time of decode + loss + the decoder's gradient: `python benchmarks/decode_memory.py [--real]`.

Live bytes of the compute device (`live_memory`) by the number of frames; caches that would lie in a GPU's host are
counted apart. As it stands on tiny VAEs of the real classes with real values, and their CPU time; with `--real` at the
sizes of Wan 2.1 and CogVideoX in bf16 on tensors without values: the same code runs and every tensor is counted. An
allocator, a convolution's workspace and a device's context come on top.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from diffusers import AutoencoderKLCogVideoX, AutoencoderKLWan
from live_memory import LiveMemory, without_values
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from reelign.generators.decoding.decoders import decoder_of
from reelign.generators.decoding.video import VideoDecoder
from reelign.training import staged_pieces
from reelign.training.staged_decode import DecodeSettings, decoder_gradient

WAYS = {
    "plain": DecodeSettings(mode="whole"),
    "chunk": DecodeSettings(mode="chunk"),
    "reverse": DecodeSettings(mode="reverse"),
    "reverse, blocks kept": DecodeSettings(mode="reverse", checkpoint_blocks=False),
}
MIB = 2**20


@dataclass(frozen=True)
class Found:
    """Bytes of one step."""

    peak: int
    """Live on the compute device at most, weights included."""
    pixels: int
    """Of which the pixels' gradient, the latents and theirs, which no way can do without."""
    host: int
    """Caches in the host's memory."""


def tiny(name: str) -> VideoDecoder:
    """A VAE of the real class with few channels, frozen."""
    torch.manual_seed(0)
    if name == "wan":
        vae: Any = AutoencoderKLWan(base_dim=16, z_dim=16, num_res_blocks=1)
    else:
        vae = AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4,
            block_out_channels=(16, 32, 32, 64),
            layers_per_block=1,
            norm_num_groups=8,
        )
    return decoder_of(vae.eval().requires_grad_(False))


def real(name: str) -> VideoDecoder:
    """The VAE of Wan 2.1 or of CogVideoX 2B in bf16 without values; the configs are the classes' defaults."""
    if name == "wan":
        vae: Any = AutoencoderKLWan()
    else:
        kinds = {"down_block_types": ("CogVideoXDownBlock3D",) * 4, "up_block_types": ("CogVideoXUpBlock3D",) * 4}
        vae = AutoencoderKLCogVideoX(block_out_channels=(128, 256, 256, 512), layers_per_block=3, **kinds)
    vae.encoder = nn.Identity()
    return decoder_of(vae.to(torch.bfloat16).eval().requires_grad_(False))


def step(decoder: VideoDecoder, latents: Tensor, settings: DecodeSettings, *, fake: bool = False) -> Found:
    """What lives during one step."""
    pieces = decoder.pieces(latents.shape[2])
    with LiveMemory([latents, *decoder.vae.parameters()], fake=fake) as memory, host_apart(memory):
        found = decoder_gradient(decoder, latents, brighter, settings)
    area = latents.shape[3] * latents.shape[4] * 64
    pixels = latents.shape[0] * 3 * pieces[-1].frames.stop * area * latents.element_size()
    assert found.latents.shape == latents.shape
    return Found(memory.peak, pixels + 2 * latents.nbytes, memory.host)


def brighter(video: Tensor) -> Tensor:
    """A loss with a gradient at every pixel."""
    return (1 - video).square().mean()


@contextlib.contextmanager
def host_apart(memory: LiveMemory) -> Iterator[None]:
    """Caches go to a memory of their own and come back as copies, on a machine without a GPU as on one with."""

    def leave(tensor: Tensor) -> Tensor:
        with memory.elsewhere():
            copy: Any = tensor.clone()
        copy.is_away = True
        return copy  # type: ignore[no-any-return]

    def come_back(tensor: Tensor) -> Tensor:
        return tensor.clone() if hasattr(tensor, "is_away") else tensor

    def to_host(cache: Any) -> Any:
        return tree_map_only(Tensor, leave, cache)

    def to_device(cache: Any, device: torch.device) -> Any:
        return tree_map_only(Tensor, come_back, cache)

    with mock.patch.object(staged_pieces, "to_host", to_host), mock.patch.object(staged_pieces, "to_device", to_device):
        yield


def seconds(decoder: VideoDecoder, latents: Tensor, settings: DecodeSettings) -> float:
    """CPU seconds of one step."""
    start = time.process_time()
    decoder_gradient(decoder, latents, brighter, settings)
    return time.process_time() - start


def measured(names: list[str], frames: list[int], side: int, repeats: int) -> None:
    """Tiny VAEs, real values: memory by frames, time at the second number of frames."""
    for name in names:
        decoder = tiny(name)
        for way, settings in WAYS.items():
            found = [step(decoder, torch.randn(1, 16, (count - 1) // 4 + 1, side, side), settings) for count in frames]
            print_row(name, way, frames, found)
        latents = torch.randn(1, 16, (frames[1] - 1) // 4 + 1, side, side)
        spent = {way: min(seconds(decoder, latents, how) for _ in range(repeats)) for way, how in WAYS.items()}
        row = ", ".join(f"{way} {each:.2f} s ({each / spent['plain']:.2f})" for way, each in spent.items())
        print(f"{name}, CPU time at {frames[1]} frames: {row}", flush=True)


def at_real_size(names: list[str], frames: list[int], ways: list[str], height: int, width: int) -> None:
    """Tensors without values at the size of the published models."""
    for name in names:
        with without_values():
            decoder = real(name)
            for way in ways:
                found = []
                for count in frames:
                    latents = torch.empty(1, 16, (count - 1) // 4 + 1, height // 8, width // 8, dtype=torch.bfloat16)
                    found.append(step(decoder, latents, WAYS[way], fake=True))
                    print_row(f"{name} {height} x {width}", way, frames[: len(found)], found)


def print_row(name: str, way: str, frames: list[int], found: list[Found]) -> None:
    """One line: peaks by frames, growth beyond the pixels, and the caches elsewhere."""
    peaks = ", ".join(f"{count}: {each.peak / MIB:.1f}" for count, each in zip(frames, found, strict=True))
    first, last = found[0].peak - found[0].pixels, found[-1].peak - found[-1].pixels
    host = f", host {found[-1].host / MIB:.1f}" if found[-1].host else ""
    print(f"{name}, {way}: MiB {peaks}; beyond pixels x {last / first:.3f}{host}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real", action="store_true", help="tensors without values, at the published sizes")
    parser.add_argument("--vaes", nargs="+", default=["wan", "cogvideox"])
    parser.add_argument("--frames", nargs="+", type=int, default=[17, 33, 81])
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    parser.add_argument("--size", nargs=2, type=int, default=[480, 832])
    parser.add_argument("--side", type=int, default=4, help="latent height and width of the tiny clips")
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    if options.real:
        at_real_size(options.vaes, options.frames, options.ways, *options.size)
    else:
        measured(options.vaes, options.frames, options.side, options.repeats)
