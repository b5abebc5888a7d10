"""Two folders, chosen/ and rejected/, with videos of the same names, and the prompts beside them.

A video's prompt is `<name>.txt` in prompts/ or beside the video itself, or the row of `prompts.csv`, `.jsonl` or
`.parquet` with the columns name and prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from reelign.errors import ReelignError
from reelign.records.file_rows import NO_VIDEO, Broken, Row
from reelign.records.readers.base import VIDEO_SUFFIXES, Reader, Source, compared
from reelign.records.tables import read_columns

SIDES = ("chosen", "rejected")


def recognise(source: Source) -> bool:
    return all((source.path / side).is_dir() for side in SIDES)


def read(source: Source) -> Iterator[Row]:
    chosen, rejected = (_videos(source.folder / side) for side in SIDES)
    prompts = _prompts(source.folder)
    for name in sorted({*chosen, *rejected}):
        where = f"{source.path}, {name}"
        if name in chosen and name in rejected:
            sides = (("chosen", chosen[name]), ("rejected", rejected[name]))
            yield compared(source, where, prompts.get(name), *sides, margin=1.0)
        else:
            there, missing = SIDES if name in chosen else SIDES[::-1]
            what = f"it is in {there}/ and not in {missing}/"
            yield Broken(where=where, reason=NO_VIDEO, what=what, mend="Give both videos the same name.")


def _videos(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            if path.stem in found:
                raise ReelignError(f"{folder} has two videos named {path.stem}", "Rename one of them.")
            found[path.stem] = path
    return found


def _prompts(folder: Path) -> dict[str, str]:
    texts = [path for place in (*SIDES[::-1], "prompts") for path in (folder / place).glob("*.txt")]
    found = {path.stem: path.read_text(encoding="utf-8").strip() for path in texts}
    for path in sorted(folder.glob("prompts.*")):
        if path.suffix in (".csv", ".jsonl", ".parquet"):
            columns = read_columns(path)
            if not {"name", "prompt"} <= set(columns):
                raise ReelignError(f"{path} must have the columns name and prompt", "Add them.")
            found |= {Path(str(name)).stem: text for name, text in zip(columns["name"], columns["prompt"], strict=True)}
    return found


READER = Reader(what="folders chosen/ and rejected/ with videos of the same names", recognise=recognise, read=read)
