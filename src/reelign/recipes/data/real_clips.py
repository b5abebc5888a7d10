"""Real clips in a user's file: what they show, what they go on from, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from reelign.diffusion.seeds import seed_from
from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator, VideoSize
from reelign.recipes.data.clips import Clip, load_latents, pixel_size
from reelign.records import FileVideo, FirstFrame, ImagePrompt, prompt_content, read_videos
from reelign.training import ShuffledStream, VideoBatch
from reelign.training.asked import check_images
from reelign.training.caches import cached_prompts, file_hash

Images = Literal["column", "first_frame"]
"""Where single videos of a file take the images from that they go on from: the file's column `image`, or each its own
first frame."""
NAME_THEM = (
    "Name them in the column image of the file, or set images=first_frame, with which real clips and labelled videos "
    "go on from their own first frames."
)


@dataclass(frozen=True)
class RealClips:
    """Real clips, encoded."""

    latents: Tensor
    """(clips, C, F, H, W)."""
    prompts: list[str]
    """Each once."""
    rows: list[int]
    """Of each clip's prompt."""
    names: list[str]
    size: VideoSize | None
    """Of clips that go on from images."""

    def conditioning(self, generator: Generator, cache: Path) -> Conditioning:
        """A row for each prompt."""
        return cached_prompts(self.prompts, generator, cache / "text", size=self.size)


def read_real(path: str | Path, images: Images = "column") -> list[FileVideo]:
    """The clips in a file of (prompt, video), with the images that they go on from.

    Raises:
        ReelignError: as `records.read_videos`, or the file names images and others are asked for.
    """
    if not Path(path).is_file():
        raise ReelignError(
            f"real names the file of videos {path}, which is not there.",
            "Give a CSV or Parquet file of (prompt, video) of your own: real=PATH.",
        )
    found = read_videos(path)
    return [replace(each, prompt=asked_of(each.prompt, each.video, images)) for each in found]


def asked_of(prompt: str, video: Path, images: Images) -> str:
    """The prompt of one video in a file.

    Raises:
        ReelignError: the file names its image, and its first frame is asked for.
    """
    if images == "column":
        return prompt
    if isinstance(prompt, ImagePrompt):
        raise ReelignError(
            f"The file names the image {prompt.image} for {video}, and images=first_frame takes the video's own first "
            "frame.",
            "Leave images=first_frame out, or the column image.",
        )
    return FirstFrame(prompt, video, f"first frame of {file_hash(video)}")


def check_real(generator: Generator, path: str | Path, images: Images) -> None:
    """Refuse clips without images for a model that goes on from them, clips with images for any other.

    Raises:
        ReelignError: as `read_real` and `training.asked.check_images`.
    """
    check_images(generator, [each.prompt for each in read_real(path, images)], mend=NAME_THEM)


def real_content(path: str | Path, images: Images) -> list[list[object]]:
    """What changes with the clips of a file."""
    return clips_content(read_real(path, images))


def clips_content(clips: Sequence[FileVideo]) -> list[list[object]]:
    """What changes with these clips."""
    return [[prompt_content(each.prompt), file_hash(each.video)] for each in clips]


def real_size(clips: Sequence[FileVideo]) -> VideoSize | None:
    """The one size of clips that go on from images; None where they go on from none.

    Raises:
        ReelignError: there are several.
    """
    if not any(isinstance(each.prompt, ImagePrompt) for each in clips):
        return None
    return pixel_size([Clip(each.video) for each in clips])


def load_real(
    path: str | Path, images: Images, generator: Generator, cache: Path, *, limit: int | None = None
) -> RealClips:
    """The first clips of a file, at most `limit`, through the VAE once."""
    found = read_real(path, images)[:limit]
    prompts = list(dict.fromkeys(each.prompt for each in found))
    row = {prompt: place for place, prompt in enumerate(prompts)}
    return RealClips(
        latents=load_latents([Clip(each.video) for each in found], generator, cache),
        prompts=prompts,
        rows=[row[each.prompt] for each in found],
        names=[each.video.stem for each in found],
        size=real_size(found),
    )


def real_stream(
    clips: RealClips, generator: Generator, cache: Path, *, batch_size: int, seed: int
) -> ShuffledStream[VideoBatch]:
    """Batches of real clips, in an order and with draws of their own."""
    return ShuffledStream(
        VideoBatch,
        clips.latents,
        clips.conditioning(generator, cache),
        torch.tensor(clips.rows),
        batch_size=batch_size,
        seed=seed_from(seed, "real"),
        names=clips.names,
    )
