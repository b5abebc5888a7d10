"""`prompts`: new prompts for a workspace or a file, as a Python call."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reelign.config import Layer, resolve
from reelign.costs import measured
from reelign.critics.cache import CachedWriter
from reelign.critics.server import ServerWriter
from reelign.critics.writing import Writer
from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.opening import settings_of
from reelign.recipes.prompts.making import Made, make_prompts
from reelign.recipes.prompts.settings import PromptSettings, WriterSettings
from reelign.recipes.prompts.words import OF_MODELS, load_words
from reelign.records import Workspace

EVERYDAY = "everyday"
RECORD = "prompts"
"""Folder of a workspace: of each split a line of JSON per prompt made, with its category and its draft."""


def prompts(
    workspace: str | Path | None = None,
    *,
    out: str | Path | None = None,
    layers: list[Layer] | None = None,
    **settings: Any,
) -> Made:
    """Make prompts: categories and attributes combined at random, written out, and of those the good and new ones.

    Args:
        workspace: its split gets them, unless `out` is given; its prompts are not made again.
        out: a text file with a prompt a line, in place of the workspace's split.
        settings: of `PromptSettings`.
    Raises:
        ReelignError: neither workspace nor file, unknown words, or a server that gives no answer.
    """
    if workspace is None and out is None:
        raise ReelignError("Prompts were asked for and no place to put them.", "Give -w WORKSPACE or --out FILE.txt")
    if workspace is None:
        wanted = resolve(PromptSettings, [*(layers or []), ("the call", settings)])
        return _to_file(make_prompts(wanted, load_words(wanted.words or EVERYDAY), writer=_writer(wanted.writer)), out)
    opened = Workspace.open(workspace)
    wanted = settings_of(opened, "prompts", layers, settings)
    words = load_words(wanted.words or OF_MODELS.get(opened.model, EVERYDAY))
    taken = {prompt.text: prompt.split for prompt in opened.prompts()}
    # Of a text in several splits the own one counts.
    taken |= {prompt.text: wanted.split for prompt in opened.prompts(wanted.split)}
    with measured(opened.root, "prompts"):
        writer = _writer(wanted.writer, opened.root / "cache" / "prompts")
        made = make_prompts(wanted, words, taken=taken, writer=writer)
        if out is not None:
            return _to_file(made, out)
        opened.add_prompts([prompt.text for prompt in made.prompts], wanted.split)
        _record(opened.root / RECORD / f"{wanted.split}.jsonl", made)
    return made


def _writer(wanted: WriterSettings, cache: Path | None = None) -> Writer | None:
    """Who writes, None for the template."""
    writer: Writer
    if wanted.server.url:
        writer = ServerWriter(wanted.server)
    elif wanted.model:
        from reelign.critics.local_text import TextWriter

        writer = TextWriter.load(wanted.model, device=wanted.device, dtype=wanted.dtype)
    else:
        return None
    return writer if cache is None else CachedWriter(writer, cache)


def _to_file(made: Made, out: str | Path | None) -> Made:
    assert out is not None
    write_text(Path(out), "".join(f"{prompt.text}\n" for prompt in made.prompts))
    return made


def _record(path: Path, made: Made) -> None:
    """Add the prompts and where they came from."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [json.dumps(asdict(prompt), ensure_ascii=False) + "\n" for prompt in made.prompts]
    write_text(path, before + "".join(lines))
