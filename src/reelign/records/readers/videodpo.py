"""VideoDPO's `pair.json`: numbers of a better and a worse video in the list `metadata.json` beside it.

Liu et al. 2024 (arXiv:2412.14167), data/video_data.py of the authors' code: `video1` is the better one whatever `label`
says; `frame_caption` is the prompt, or a list that begins with it; `score` is how rare the pair is, no margin. Without
`metadata.json` a number 2n is winvideos/n and 2n + 1 is losevideos/n, as their dataset lies.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reelign.errors import ReelignError
from reelign.records.file_rows import BAD_VALUE, Broken, Row
from reelign.records.readers.base import Reader, Source, compared

COLUMNS = ("video1", "video2", "frame_caption")
SHORTEST_S = 1.0
"""Their loader leaves shorter clips out of the list before it counts."""


def read(source: Source) -> Iterator[Row]:
    clips = _clips(source.folder / "metadata.json")
    for where, row in source.rows():
        caption = row["frame_caption"]
        prompt = caption[0] if isinstance(caption, list) and caption else caption
        try:
            better, worse = (_path(clips, row[name]) for name in ("video1", "video2"))
        except (TypeError, ValueError, IndexError):
            yield Broken(
                where=where,
                reason=BAD_VALUE,
                what=f"video1 and video2 must be numbers of videos, got {row['video1']!r} and {row['video2']!r}",
                mend="Check that metadata.json is the one that belongs to pair.json.",
            )
        else:
            yield compared(source, where, prompt, ("video1", better), ("video2", worse), margin=1.0)


def _clips(metadata: Path) -> list[str] | None:
    if not metadata.is_file():
        return None
    try:
        basics: list[dict[str, Any]] = [each["basic"] for each in json.loads(metadata.read_text(encoding="utf-8"))]
        clips = [str(basic["clip_path"]) for basic in basics]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReelignError(
            f"{metadata} cannot be read: {error!r}", "It must be a list of objects with basic.clip_path."
        ) from error
    short = sum(float(basic.get("clip_duration", SHORTEST_S)) < SHORTEST_S for basic in basics)
    if short:
        raise ReelignError(
            f"{metadata} lists {short} clips under {SHORTEST_S:g} s, which VideoDPO leaves out before it counts, so "
            "that it is not certain which videos the numbers of pair.json mean",
            "Write the pairs as a table of prompt, chosen and rejected.",
        )
    return clips


def _path(clips: list[str] | None, number: Any) -> str:
    index = int(number)
    if index < 0:
        raise IndexError
    if clips is not None:
        return clips[index]
    return f"{'losevideos' if index % 2 else 'winvideos'}/{index // 2:06d}.mp4"


READER = Reader(what="VideoDPO's pair.json of video1, video2, frame_caption", columns=COLUMNS, read=read)
