"""Pairs of files: what rows of a file decide, and writing them as CSV, Parquet or JSONL."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from reelign.errors import ReelignError
from reelign.records.file_rows import Compared, FileLabel
from reelign.records.image_prompts import ImagePrompt
from reelign.records.pair_policies import DISAGREEMENT
from reelign.records.segments import Segments, segments_cell, turned_around
from reelign.records.tables import check_writable, write_columns

TIE = "tie"
NOT_JUDGED = "no label"
FILE_POLICIES = ("all", "agreed", "per_dimension")


@dataclass(frozen=True, kw_only=True, slots=True)
class FilePair:
    """Two video files of one prompt of which one is better."""

    prompt: str
    chosen: Path
    rejected: Path
    margin: float = 1.0
    """How much better, > 0."""
    margins: Mapping[str, float] = field(default_factory=dict)
    """The margin on each judged dimension; a negative one speaks against the choice."""
    segments: Segments = ()
    """Parts with a verdict of their own."""


def decided(
    compared: Iterable[Compared], *, pairs: str = "all", weights: Mapping[str, float] | None = None
) -> tuple[list[FilePair], dict[str, int]]:
    """The pairs that compared rows decide, and the count of rows that decide none, by reason.

    Args:
        compared: from a reader.
        pairs: all: a pair for every row that is no tie. agreed: of those, the ones whose every dimension speaks for
            the choice. per_dimension: one for each dimension that is no tie, so that a row may give several.
        weights: dimension to weight >= 0 for the mean that decides a row; those not named do not count. None: the
            file's own overall verdict, or the plain mean where it has none.
    Raises:
        ReelignError: a policy that needs groups of candidates, or a weight for a dimension that no row has.
    """
    if pairs not in FILE_POLICIES:
        raise ReelignError(
            f"pairs={pairs} needs a workspace's candidates, and a file holds pairs as they are",
            f"Set pairs to one of {', '.join(FILE_POLICIES)}.",
        )
    rows = list(compared)
    _check_weights(rows, weights)
    found: list[FilePair] = []
    left_out: Counter[str] = Counter()
    for row in rows:
        if pairs == "per_dimension":
            named = {name: margin for name, margin in row.margins.items() if weights is None or weights.get(name)}
            verdicts = [(margin, {name: margin}) for name, margin in sorted(named.items())]
        else:
            margin = _overall(row, weights)
            verdicts = [] if margin is None else [(margin, row.margins)]
        if not verdicts:
            left_out[NOT_JUDGED] += 1
        for margin, margins in verdicts:
            pair = _pair(row, margin, margins)
            if not margin:
                left_out[TIE] += 1
            elif pairs == "agreed" and not all(value > 0 for value in pair.margins.values()):
                left_out[DISAGREEMENT] += 1
            else:
                found.append(pair)
    return found, {reason: left_out[reason] for reason in sorted(left_out)}


def write_pairs(path: str | Path, pairs: Iterable[FilePair]) -> None:
    """Write pairs as CSV, Parquet or JSONL, by the suffix; `read_pairs` gives them back.

    Videos and images are named relative to the file's folder, so that a folder with both can be moved. The file appears
    whole or not at all.

    Raises:
        ReelignError: another suffix, or no pairs.
    """
    path = Path(path)
    check_writable(path)
    pairs = list(pairs)
    if not pairs:
        raise ReelignError(f"there are no pairs to write to {path}", "Judge some videos first.")
    folder = path.resolve().parent
    segments = [segments_cell(pair.segments) for pair in pairs]
    dimensions = list(dict.fromkeys(name for pair in pairs for name in pair.margins))
    write_columns(
        path,
        {
            "prompt": [str(pair.prompt) for pair in pairs],
            "chosen": [_relative(pair.chosen, folder) for pair in pairs],
            "rejected": [_relative(pair.rejected, folder) for pair in pairs],
            "margin": [float(pair.margin) for pair in pairs],
            **{f"margin_{name}": [pair.margins.get(name) for pair in pairs] for name in dimensions},
            **({"segments": segments} if any(segments) else {}),
            **_images([pair.prompt for pair in pairs], folder),
        },
    )


def write_labels(path: str | Path, labels: Iterable[FileLabel]) -> None:
    """Write pointwise labels as CSV, Parquet or JSONL of (prompt, video, label), label true or false."""
    path = Path(path)
    folder, labels = path.resolve().parent, list(labels)
    write_columns(
        path,
        {
            "prompt": [str(each.prompt) for each in labels],
            "video": [_relative(each.video, folder) for each in labels],
            "label": [each.desirable for each in labels],
            **_images([each.prompt for each in labels], folder),
        },
    )


def _overall(row: Compared, weights: Mapping[str, float] | None) -> float | None:
    if weights is None and row.margin is not None:
        return row.margin
    weight = {name: 1.0 if weights is None else weights.get(name, 0.0) for name in row.margins}
    total = math.fsum(weight.values())
    if not total:
        return None
    return round(math.fsum(weight[name] * margin for name, margin in row.margins.items()) / total, 9) + 0.0


def _pair(row: Compared, margin: float, margins: Mapping[str, float]) -> FilePair:
    sign = 1.0 if margin > 0 else -1.0
    chosen, rejected = (row.first, row.second) if margin > 0 else (row.second, row.first)
    turned = {name: sign * value + 0.0 for name, value in margins.items()}
    segments = row.segments if margin > 0 else turned_around(row.segments)
    return FilePair(
        prompt=row.prompt, chosen=chosen, rejected=rejected, margin=abs(margin), margins=turned, segments=segments
    )


def _check_weights(rows: Iterable[Compared], weights: Mapping[str, float] | None) -> None:
    known = sorted({name for row in rows for name in row.margins})
    for name in weights or ():
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0)
            mend = f"Did you mean {near[0]!r}? It has: {', '.join(known)}." if near else "Leave weights out."
            raise ReelignError(f"there is a weight for dimension {name!r}, which the file does not have", mend)


def _images(prompts: list[str], folder: Path) -> dict[str, list[str | None]]:
    """The column of images, where any prompt has one."""
    images = [_relative(prompt.image, folder) if isinstance(prompt, ImagePrompt) else None for prompt in prompts]
    return {"image": images} if any(images) else {}


def _relative(file: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(file.resolve(), folder)).as_posix()
    except ValueError:  # another drive, on Windows
        return file.resolve().as_posix()
