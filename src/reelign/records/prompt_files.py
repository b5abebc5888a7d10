"""Files of prompts: a text file with a prompt a line, or a table of texts and images."""

from __future__ import annotations

from pathlib import Path

from reelign.errors import ReelignError
from reelign.records.image_prompts import prompt_of_cells
from reelign.records.tables import SUFFIXES, read_columns

TEXT, IMAGE = "text", "image"
"""Columns of a table."""


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file, in its order.

    A table by its name (CSV, Parquet, JSONL, JSON) has the column text and, for models that go on from an image, image:
    a path, relative ones from the file's own folder. Of any other file each line is a prompt, empty ones passed over.

    Raises:
        ReelignError: no such file, no prompt in it, or a row without text or with an image that cannot be read.
    """
    prompts = _of_table(path) if path.suffix in SUFFIXES and path.is_file() else _of_lines(path)
    if not prompts:
        raise ReelignError(f"{path} holds no prompt.", "Write one a line.")
    return prompts


def _of_lines(path: Path) -> list[str]:
    try:
        # With or without a byte order mark, and by newlines alone: U+2028 and its like may stand within a prompt.
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except OSError as error:
        raise ReelignError(f"There is no prompt file {path}.", "Give a text file with a prompt a line.") from error
    except UnicodeDecodeError as error:
        raise ReelignError(f"{path} is no text in UTF-8.", "Give a text file with a prompt a line.") from error
    return [line for line in lines if line]


def _of_table(path: Path) -> list[str]:
    columns = read_columns(path)
    if TEXT not in columns:
        raise ReelignError(
            f"{path} has no column {TEXT!r}, only {', '.join(columns)}.",
            "A table of prompts has the columns text and, with images, image.",
        )
    texts = columns[TEXT]
    images = columns.get(IMAGE, [None] * len(texts))
    rows = enumerate(zip(texts, images, strict=True), start=1)
    return [_prompt(path, f"{path}, row {number}", text, image) for number, (text, image) in rows]


def _prompt(path: Path, where: str, text: object, image: object) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ReelignError(f"{where}: text must be a text, got {text!r}.", "Fill it in or remove the row.")
    return prompt_of_cells(where, path.resolve().parent, text.strip(), image)
