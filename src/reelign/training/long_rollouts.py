"""Videos longer than a model makes: segment after segment, each going on from the last frame of the one before."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reelign.diffusion.seeds import seed_from
from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator, Guidance, Steering, VideoSize
from reelign.video.long_clips import joined


@dataclass(frozen=True)
class Made:
    """What was sampled together."""

    latents: Tensor
    """(B, C, F, H, W) of the first segment, or the only one."""
    videos: Tensor
    """(B, frames, 3, H, W) in [0, 1], of all segments (`video.long_clips.LongClip`)."""


def check_segments(generator: Generator, segments: int) -> None:
    """Refuse segments of a model that cannot go on from a frame of its own.

    Raises:
        ReelignError: it takes no images, or its text encoder reads them, which a rollout does not hold.
    """
    if segments == 1:
        return
    if not generator.takes_images:
        raise ReelignError(
            f"{generator.model} makes videos of text alone, and each of {segments} segments goes on from the last "
            "frame of the one before.",
            "Use an image-to-video checkpoint, or set segments=1.",
        )
    if generator.reads_images:
        raise ReelignError(
            f"The text encoder of {generator.model} reads every prompt with its image, and a clip of {segments} "
            "segments has an image for each of them.",
            "Set segments=1, or use an image-to-video model such as Wan's or Stable Video Diffusion.",
        )


def segment_seeds(seeds: list[int], segment: int) -> list[int]:
    """Of each video's noise in a segment; those of the first are the video's own."""
    return seeds if segment == 0 else [seed_from(seed, "segment", segment) for seed in seeds]


def going_on(conditioning: Conditioning, guidance: Guidance, image: Conditioning) -> tuple[Conditioning, Guidance]:
    """Both sides of guidance with another image to go on from."""
    negative = None if guidance.negative is None else guidance.negative.joined(image)
    return conditioning.joined(image), replace(guidance, negative=negative)


@torch.no_grad()
def sample_videos(
    generator: Generator,
    conditioning: Conditioning,
    seeds: list[int],
    size: VideoSize,
    *,
    steps: int,
    guidance: Guidance,
    segments: int = 1,
    steer: Steering | None = None,
) -> Made:
    """Sampled and decoded videos, by the family's own schedule; VAE and image encoders are loaded.

    Args:
        conditioning: a row for each video, on the generator's device; the image in it begins the first segment.
        seeds: of each video.
        size: of one segment.
        segments: how many; 1 is a clip as the model makes it.
        steps, guidance, steer: as for `Generator.sample`.
    """
    made, parts = None, []
    for segment in range(segments):
        own = segment_seeds(seeds, segment)
        latents = generator.sample(conditioning, own, size, steps=steps, guidance=guidance, steer=steer)
        made = latents if made is None else made
        parts.append(generator.decode(latents))
        if segment + 1 < segments:
            image = generator.continue_from(parts[-1][:, -1], size).to(generator.device)
            conditioning, guidance = going_on(conditioning, guidance, image)
    assert made is not None, "there is one segment at least"
    return Made(made, joined(parts))
