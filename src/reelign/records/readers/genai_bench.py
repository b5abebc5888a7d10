"""GenAI-Bench's table of votes from the GenAI Arena: a left and a right video, and which of them a visitor preferred.

Jiang et al. 2024 (arXiv:2406.04485), `TIGER-Lab/GenAI-Bench`, `video_generation`. A video is named by its address on
the hub; the file is looked for beside the table, where `hf download` puts it. "Both are bad" is a tie.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from reelign.records.file_rows import BAD_VALUE, NO_VIDEO, Broken, Row
from reelign.records.readers.base import Reader, Source, compared

COLUMNS = ("prompt", "left_video", "right_video", "vote_type")
MARGIN = {"leftvote": 1.0, "rightvote": -1.0, "tievote": 0.0, "bothbad_vote": 0.0}
ADDRESS = re.compile(
    r"https?://(?:[^/]+/datasets/(?P<repository>[^/]+/[^/]+)/(?:blob|resolve|raw)/[^/]+/)?(?P<path>.+)"
)
"""Of a file on the hub, or anywhere else."""


def read(source: Source) -> Iterator[Row]:
    for where, row in source.rows():
        vote = str(row["vote_type"]).strip()
        if vote not in MARGIN:
            what = f"vote_type must be one of {', '.join(MARGIN)}, got {row['vote_type']!r}"
            yield Broken(where=where, reason=BAD_VALUE, what=what, mend="Correct it or remove the row.")
            continue
        sides = [_file(source, where, row[f"{side}_video"]) for side in ("left", "right")]
        absent = next((side for side in sides if isinstance(side, Broken)), None)
        yield absent or compared(
            source,
            where,
            row["prompt"],
            ("left_video", sides[0]),
            ("right_video", sides[1]),
            margin=MARGIN[vote],
            models=(str(row.get("left_model") or ""), str(row.get("right_model") or "")),
        )


def _file(source: Source, where: str, cell: Any) -> Any | Broken:
    """The cell as it is, or the local file of an address."""
    address = ADDRESS.fullmatch(cell.strip().partition("?")[0]) if isinstance(cell, str) else None
    if address is None:
        return cell
    path = PurePosixPath(address["path"])
    there = [
        near for near in (Path(path), Path(path.name), Path("videos", path.name)) if _is_file(source.folder / near)
    ]
    if there:
        return str(there[0])
    repository = address["repository"] or "the dataset of the videos"
    return Broken(
        where=where,
        reason=NO_VIDEO,
        what=f"the video {cell} is not beside the table, neither as {path} nor as {path.name}",
        mend=f"Download it: hf download {repository} --repo-type dataset --local-dir {source.folder}",
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than any file's
        return False


READER = Reader(what="GenAI-Bench's table of prompt, left_video, right_video and vote_type", columns=COLUMNS, read=read)
