"""Prompts with an image that their videos go on from."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from reelign.errors import ReelignError


class ImagePrompt(str):
    """A prompt's text with its image; whoever reads texts alone, such as a judge, reads the text.

    Two are the same prompt if text and image are the same, and none is the same as a text alone.

    Args:
        text: what is to be seen.
        image: its file.
        image_key: the hash of its content (`image_key`).
    """

    image: Path
    image_key: str

    def __new__(cls, text: str, image: Path, image_key: str) -> ImagePrompt:
        prompt = super().__new__(cls, text)
        prompt.image, prompt.image_key = image, image_key
        return prompt

    def __getnewargs__(self) -> tuple[str, Path, str]:  # type: ignore[override]  # what copies and pickles begin with
        return str(self), self.image, self.image_key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImagePrompt) and self.image_key == other.image_key and str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((str(self), self.image_key))


def image_prompt(text: str, image: Path) -> ImagePrompt:
    """A prompt of an image file.

    Raises:
        ReelignError: there is no such file, or it is no image.
    """
    return ImagePrompt(text, image, image_key(image))


def image_key(path: Path) -> str:
    """sha256 of an image file's content, in hex; a file that did not change since is not read again.

    Raises:
        ReelignError: there is no such file, or it is no image.
    """
    try:
        status = path.stat()
        return _key(path, status.st_size, status.st_mtime_ns)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:  # of a damaged PNG it is a SyntaxError
        raise ReelignError(f"{path} cannot be read as an image: {error}", "Give a PNG, JPEG or WebP.") from error


def prompt_content(prompt: str) -> str | list[str]:
    """What of a prompt goes into a key: the text, with that of its image where it has one."""
    return [str(prompt), prompt.image_key] if isinstance(prompt, ImagePrompt) else prompt


@functools.lru_cache(maxsize=100_000)
def _key(path: Path, size: int, changed_ns: int) -> str:
    with Image.open(path) as image:
        image.verify()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
