"""Videos to train on and their latents: the sampler's own where they were kept, else a file's through the VAE."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from reelign.errors import ReelignError
from reelign.generators.base import Generator, VideoSize
from reelign.training.caches import cached_latents
from reelign.video import probe_video


@dataclass(frozen=True)
class Clip:
    """One video to train on: its latents in a shard, or only its file."""

    path: Path
    shard: Path | None = None
    key: str | None = None

    @property
    def name(self) -> str:
        return self.path.stem


def load_latents(clips: Sequence[Clip], generator: Generator, cache: Path) -> Tensor:
    """Latents (clips, C, F, H, W) fp32: the sampler's own where they were kept, else encoded once and cached."""
    shards: dict[Path, dict[str, Tensor]] = {}
    loaded: dict[Clip, Tensor] = {}
    unknown = [clip for clip in dict.fromkeys(clips) if clip.shard is None]
    encoded = cached_latents([clip.path for clip in unknown], generator, cache / "latents") if unknown else {}
    for clip in dict.fromkeys(clips):
        if clip.shard is None:
            loaded[clip] = encoded[clip.path]
        else:
            if clip.shard not in shards:
                shards[clip.shard] = load_file(clip.shard)
            loaded[clip] = shards[clip.shard][str(clip.key)]
    one_size({tuple(tensor.shape) for tensor in loaded.values()})
    return torch.stack([loaded[clip].float() for clip in clips])


def pixel_size(clips: Sequence[Clip]) -> VideoSize:
    """The one size that all clips have.

    Raises:
        ReelignError: they differ.
    """
    probes = (probe_video(path) for path in dict.fromkeys(clip.path for clip in clips))
    sizes = list(dict.fromkeys(VideoSize(probe.num_frames, probe.height, probe.width) for probe in probes))
    if len(sizes) > 1:
        raise ReelignError(
            f"The videos that go on from an image differ in size: {'; '.join(map(str, sizes))}.",
            "Train on videos of one size at a time.",
        )
    return sizes[0]


def latent_shapes(clips: Sequence[Clip], generator: Generator, cache: Path) -> dict[Clip, tuple[int, ...]]:
    """(C, F, H, W) of each clip's latents; what has to be encoded for it is."""
    unknown = [clip for clip in dict.fromkeys(clips) if clip.shard is None]
    encoded = cached_latents([clip.path for clip in unknown], generator, cache / "latents") if unknown else {}
    found = {clip: tuple(encoded[clip.path].shape) for clip in unknown}
    shards: dict[Path, list[Clip]] = {}
    for clip in clips:
        if clip.shard is not None:
            shards.setdefault(clip.shard, []).append(clip)
    for shard, own in shards.items():
        with safe_open(shard, framework="pt") as file:
            found |= {clip: tuple(file.get_slice(str(clip.key)).get_shape()) for clip in own}
    return found


def one_size(shapes: Set[tuple[int, ...]]) -> tuple[int, ...]:
    """The one shape (C, F, H, W) that all latents have."""
    if len(shapes) > 1:
        raise ReelignError(
            f"The videos differ in size: their latents are {sorted(shapes)}.", "Train on videos of one size at a time."
        )
    return next(iter(shapes))


def stored_latents(clip: Clip) -> Tensor:
    """The sampler's own latents, fp32; a clip without them is refused."""
    if clip.shard is None:
        raise ReelignError(f"{clip.path} was recorded without latents.", "Generate it again in this workspace.")
    with safe_open(clip.shard, framework="pt") as file:
        tensor: Tensor = file.get_tensor(str(clip.key))
    return tensor.float()
