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


class FirstFrame(ImagePrompt):
    """A prompt whose image is the first frame of a video.

    Args:
        text: what is to be seen.
        image: the video's file.
        image_key: changes with its content.
    """


def prompt_of_cells(where: str, folder: Path, text: str, image: object) -> str:
    """A prompt as a row of a table says it: its text, with its image where the cell names one.

    Args:
        where: file and row, for messages.
        folder: where relative paths start.
        image: a path; None or an empty cell is a text alone.
    Raises:
        ReelignError: the cell is no path, or of no file that can be read as an image.
    """
    if image is None or image == "":
        return text
    if not isinstance(image, str):
        raise ReelignError(f"{where}: image must be a path, got {image!r}.", "Give the path of an image file.")
    try:
        return image_prompt(text, (folder / Path(image).expanduser()).resolve())
    except (ReelignError, RuntimeError, ValueError) as error:  # RuntimeError: no such user; ValueError: a NUL
        what = error.what if isinstance(error, ReelignError) else f"{image!r} cannot be a path: {error}"
        raise ReelignError(f"{where}: {what}", f"Paths of images start at the folder of the file, {folder}.") from error


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
