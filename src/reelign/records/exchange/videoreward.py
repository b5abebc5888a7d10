"""The CSV that VideoReward trains on, and that of VideoGen-RewardBench: two videos a row, A, B or same per dimension.

Liu et al. 2025 (arXiv:2501.13918). The file knows no judges: what goes out is the majority vote, what comes in is the
judgement of one judge, the file's.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reelign.errors import ReelignError
from reelign.files import whole
from reelign.records.answers import Verdict
from reelign.records.exchange.bundle import Bundle, SharedVideo
from reelign.records.schema import Judgement, content_key
from reelign.records.votes import Vote

LABELS: dict[Verdict, str] = {"a": "A", "b": "B", "tie": "same"}
VERDICTS: dict[str, Verdict] = {label: verdict for verdict, label in LABELS.items()}
DIMENSIONS = ("VQ", "MQ", "TA", "Overall")
SIDES = ("A", "B")
NEEDED = ("path_A", "path_B", "prompt")


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardRow:
    """A row; videos without a model, frame rate or length leave these cells empty, as does a dimension not judged."""

    paths: tuple[str, str]
    prompt: str
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    models: tuple[str, str] = ("", "")
    fps: tuple[float | None, float | None] = (None, None)
    num_frames: tuple[int | None, int | None] = (None, None)
    scores: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)
    """Mean opinion scores of both videos by dimension, from the columns MOS_A_VQ, MOS_B_VQ …; 0 is none, as in the
    authors' code. They are read and not written."""


def write_rows(path: str | Path, rows: Iterable[RewardRow]) -> None:
    """Write the columns of VideoGen-RewardBench; dimensions of one's own stand after its four."""
    rows = list(rows)
    judged = {name for row in rows for name in row.verdicts}
    dimensions = [name for name in DIMENSIONS if name in judged] + sorted(judged - set(DIMENSIONS))
    sizes = [f"{what}_{side}" for side in SIDES for what in ("fps", "num_frames")]
    header = ["path_A", "path_B", "A_model", "B_model", "prompt", *dimensions, *sizes]
    with whole(Path(path)) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row in rows:
            labels = [LABELS[row.verdicts[name]] if name in row.verdicts else "" for name in dimensions]
            lengths = [value for side in (0, 1) for value in (row.fps[side], row.num_frames[side])]
            writer.writerow([*row.paths, *row.models, row.prompt, *labels, *lengths])


def read_rows(path: str | Path) -> list[RewardRow]:
    """Read such a file; labels other than A, B and same are missing ones, as in the authors' code.

    Raises:
        ReelignError: no such file, a missing column, or a length that is no number.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            names = list(table.fieldnames or ())
            for name in NEEDED:
                if name not in names:
                    raise ReelignError(f"{path} has no column {name!r}", f"It needs {', '.join(NEEDED)}.")
            dimensions = [name for name in names if _is_dimension(name)]
            return [_row(f"{path}, row {number}", row, dimensions) for number, row in enumerate(table, start=1)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReelignError(f"{path} cannot be read: {error}", "Give a CSV in UTF-8.") from error


def rows_of(votes: Sequence[Vote], videos: Iterable[SharedVideo]) -> list[RewardRow]:
    """Votes as rows, one per pair; votes on other videos are left out."""
    known = {video.id: video for video in videos}
    verdicts: dict[tuple[str, str], dict[str, Verdict]] = {}
    for vote in votes:
        if vote.video_a in known and vote.video_b in known:
            verdicts.setdefault((vote.video_a, vote.video_b), {})[vote.dimension] = vote.verdict
    found = []
    for (first, second), own in verdicts.items():
        a, b = known[first], known[second]
        found.append(
            RewardRow(
                paths=(a.path, b.path),
                prompt=a.prompt,
                verdicts=own,
                models=(a.generator, b.generator),
                fps=(a.fps, b.fps),
                num_frames=(a.num_frames, b.num_frames),
            )
        )
    return found


def bundle_of_rows(rows: Iterable[RewardRow], *, judge: str, version: str = "1", split: str = "train") -> Bundle:
    """Rows as videos and judgements of one judge; the same rows give the same keys, so that they are recorded once."""
    videos: dict[str, SharedVideo] = {}
    judgements = []
    for row in rows:
        ids = [content_key(path, row.prompt) for path in row.paths]
        for side, key in enumerate(ids):
            videos[key] = SharedVideo(
                id=key,
                prompt=row.prompt,
                split=split,
                path=row.paths[side],
                generator=row.models[side],
                fps=row.fps[side] or 0.0,
                num_frames=row.num_frames[side] or 0,
            )
        judgements += [
            Judgement(
                key=content_key(judge, version, ids, dimension, verdict),
                video_a=ids[0],
                video_b=ids[1],
                dimension=dimension,
                verdict=verdict,
                judge=judge,
                judge_version=version,
            )
            for dimension, verdict in row.verdicts.items()
        ]
    return Bundle(videos=list(videos.values()), judgements=judgements)


def _is_dimension(name: str) -> bool:
    others = ("path_", "fps_", "num_frames_", "MOS_")
    return name not in ("prompt", "A_model", "B_model", "metainfo_idx") and not name.startswith(others)


def _row(where: str, row: dict[str, str | None], dimensions: Sequence[str]) -> RewardRow:
    try:
        fps = (_number(row.get("fps_A")), _number(row.get("fps_B")))
        num_frames = (_whole(_number(row.get("num_frames_A"))), _whole(_number(row.get("num_frames_B"))))
        scores = _scores(row, dimensions)
    except ValueError as error:
        raise ReelignError(f"{where}: {error}", "Correct it or leave it empty.") from None
    return RewardRow(
        paths=(row["path_A"] or "", row["path_B"] or ""),
        prompt=row["prompt"] or "",
        verdicts={name: VERDICTS[row[name] or ""] for name in dimensions if row[name] in VERDICTS},
        models=(row.get("A_model") or "", row.get("B_model") or ""),
        fps=fps,
        num_frames=num_frames,
        scores=scores,
    )


def _scores(row: dict[str, str | None], dimensions: Sequence[str]) -> dict[str, tuple[float | None, float | None]]:
    found = {name: [_number(row.get(f"MOS_{side}_{name}")) or None for side in SIDES] for name in dimensions}
    return {name: (pair[0], pair[1]) for name, pair in found.items() if any(pair)}


def _number(cell: str | None) -> float | None:
    value = float(cell) if cell else None
    if value is not None and not math.isfinite(value):
        raise ValueError(f"a length or rate cannot be {cell}")
    return value


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
