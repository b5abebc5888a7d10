"""A table of (prompt, video, label), optionally with `image`: pointwise labels, as KTO takes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reelign.records.file_rows import BAD_VALUE, Broken, Row
from reelign.records.readers.base import Reader, Source, labelled

COLUMNS = ("prompt", "video", "label")
WANTED = ("true", "1", "1.0", "+1", "yes", "good", "desirable", "up")
UNWANTED = ("false", "0", "0.0", "-1", "-1.0", "no", "bad", "undesirable", "down")


def read(source: Source) -> Iterator[Row]:
    for where, row in source.rows():
        desirable = _desirable(row["label"])
        if desirable is None:
            yield Broken(
                where=where,
                reason=BAD_VALUE,
                what=f"label must be true or false, got {row['label']!r}",
                mend=f"Wanted videos may be {', '.join(WANTED)}, unwanted ones {', '.join(UNWANTED)}.",
            )
        else:
            yield labelled(source, where, row["prompt"], row["video"], desirable, image=row.get("image"))


def _desirable(cell: Any) -> bool | None:
    word = str(cell).strip().lower()
    return True if word in WANTED else False if word in UNWANTED else None


READER = Reader(what="a table of prompt, video, label", columns=COLUMNS, read=read)
