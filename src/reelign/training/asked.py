"""What a model is asked for, encoded: texts, and the images that videos go on from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator, VideoSize
from reelign.records import FirstFrame, ImagePrompt
from reelign.video import read_image, read_video

ASK_TABLE = "Give the prompts as a table with the columns text and image: reelign init FOLDER --prompts prompts.csv"


@dataclass(frozen=True)
class Sides:
    """Both sides of guidance, encoded."""

    own: Conditioning
    """A row for each prompt."""
    negative: Conditioning
    """One row, of the negative prompt's text."""

    def take(self, rows: Tensor) -> tuple[Conditioning, Conditioning]:
        """Both sides of the videos of the prompts at (n,) `rows`."""
        own = self.own.take(rows)
        return own, against(own, self.negative)


def against(own: Conditioning, negative: Conditioning) -> Conditioning:
    """The other side of guidance: for each row of a conditioning the negative text, beside the image of its own."""
    rows = torch.zeros(len(own), dtype=torch.long)
    return own.joined(negative.take(rows).to(next(iter(own.tensors.values())).device))


def check_images(generator: Generator, prompts: Sequence[str], *, mend: str = ASK_TABLE) -> None:
    """Refuse prompts without images for a model that goes on from them, and prompts with images for any other.

    Args:
        mend: how prompts from where these come get images.
    Raises:
        ReelignError: such a prompt; or some with and some without, for a model that takes both.
    """
    images = [prompt for prompt in prompts if isinstance(prompt, ImagePrompt)]
    texts = [prompt for prompt in prompts if not isinstance(prompt, ImagePrompt)]
    if images and not generator.takes_images:
        raise ReelignError(
            f"{generator.model} makes videos of text alone, and {len(images)} of {len(prompts)} prompts have an image, "
            f"such as {str(images[0])!r}.",
            "Use an image-to-video checkpoint, or prompts without images.",
        )
    if texts and generator.needs_images:
        raise ReelignError(
            f"{generator.model} goes on from an image, and {len(texts)} of {len(prompts)} prompts have none, such as "
            f"{texts[0]!r}.",
            mend,
        )
    if texts and images:
        raise ReelignError(
            f"{len(images)} of {len(prompts)} prompts have an image and the others have none.",
            "Put them into workspaces or splits of their own.",
        )


def encode_asked(generator: Generator, prompts: Sequence[str], size: VideoSize) -> Conditioning:
    """A row for each prompt: its text, joined with its image for clips of `size` where it has one."""
    if generator.reads_images:
        text = Conditioning.cat([encode_text(generator, prompt) for prompt in prompts])
    else:
        text = generator.encode_prompts([str(prompt) for prompt in prompts])
    images = [encode_image(generator, prompt, size) for prompt in prompts if isinstance(prompt, ImagePrompt)]
    return text.joined(Conditioning.cat(images)) if images else text


def encode_text(generator: Generator, prompt: str) -> Conditioning:
    """One row, of a prompt's text: read together with its image where the model does so."""
    if generator.reads_images and isinstance(prompt, ImagePrompt):
        return generator.encode_together([str(prompt)], picture_of(prompt)[None])
    return generator.encode_prompts([str(prompt)])


def encode_image(generator: Generator, prompt: ImagePrompt, size: VideoSize) -> Conditioning:
    """One row, of a prompt's image alone."""
    return generator.encode_condition(picture_of(prompt)[None], size)


def picture_of(prompt: ImagePrompt) -> Tensor:
    """What a prompt's videos go on from, (3, H, W) in [0, 1]."""
    if isinstance(prompt, FirstFrame):
        return read_video(prompt.image).frames[0]
    return read_image(prompt.image)
