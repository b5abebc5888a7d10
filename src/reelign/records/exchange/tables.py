"""A record as a folder of tables: videos, tasks, judgements and scores, as Parquet, JSONL or CSV."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow as pa
from pyarrow import csv, parquet

from reelign.errors import ReelignError
from reelign.files import whole
from reelign.records.exchange.bundle import Bundle, SharedVideo, as_row, from_row
from reelign.records.judgement_log import in_chunks
from reelign.records.schema import Judgement, Score, Task

TableFormat = Literal["parquet", "jsonl", "csv"]
FORMATS: tuple[TableFormat, ...] = ("parquet", "jsonl", "csv")
ROWS_AT_A_TIME = 10_000

KINDS = {"videos": SharedVideo, "tasks": Task, "judgements": Judgement, "scores": Score}

_TEXT, _WHOLE, _REAL = pa.string(), pa.int64(), pa.float64()
SCHEMAS = {
    "videos": pa.schema(
        dict.fromkeys(("id", "prompt", "split", "path", "content_hash", "generator", "adapter"), _TEXT)
        | {"seed": _WHOLE, "index": _WHOLE, "settings": _TEXT, "fps": _REAL}
        | dict.fromkeys(("num_frames", "height", "width"), _WHOLE)
    ),
    "tasks": pa.schema(
        dict.fromkeys(("id", "kind", "videos", "dimensions"), _TEXT)
        | {"wanted": _WHOLE, "gold": _TEXT, "created": _TEXT}
    ),
    "judgements": pa.schema(
        dict.fromkeys(("key", "kind", "video_a", "video_b", "candidates", "dimension", "verdict"), _TEXT)
        | dict.fromkeys(("strength", "judge", "judge_version", "shown_left", "reason", "defects"), _TEXT)
        | {"duration_s": _REAL, "task": _TEXT, "supersedes": _TEXT, "created": _TEXT}
    ),
    "scores": pa.schema(
        dict.fromkeys(("video", "reward", "reward_version", "dimension"), _TEXT) | {"value": _REAL, "created": _TEXT}
    ),
}
"""Nested values (settings, candidates, defects, gold) are JSON text, times ISO 8601, in every format."""


def write_tables(folder: str | Path, bundle: Bundle, format: TableFormat = "parquet") -> None:
    """Write one file per table; each appears whole or not at all."""
    things: dict[str, Iterable[Any]] = {
        "videos": bundle.videos,
        "tasks": bundle.tasks,
        "judgements": bundle.judgements,
        "scores": bundle.scores,
    }
    for name, some in things.items():
        with whole(Path(folder) / f"{name}.{format}") as beside:
            _write(beside, map(as_row, some), SCHEMAS[name], format)


def read_tables(folder: str | Path) -> Bundle:
    """Read what `write_tables` wrote; of the judgements only as much is in memory as is looked at.

    Videos alone are a record too: of one's own, still to be judged.

    Raises:
        ReelignError: no videos there, an export that lacks its judgements, or a table that cannot be read.
    """
    folder = Path(folder)
    exported = any((folder / f"{name}.{format}").is_file() for name in ("tasks", "scores") for format in FORMATS)
    return Bundle(
        videos=list(_read(folder, "videos")),
        tasks=list(_read(folder, "tasks", needed=False)),
        judgements=_read(folder, "judgements", needed=exported),
        scores=list(_read(folder, "scores", needed=False)),
    )


def _write(path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema, format: TableFormat) -> None:
    if format == "jsonl":
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        return
    writer = parquet.ParquetWriter if format == "parquet" else csv.CSVWriter
    with writer(str(path), schema) as table:
        for some in in_chunks(rows, ROWS_AT_A_TIME):
            table.write_batch(pa.RecordBatch.from_pylist(some, schema=schema))


def _read(folder: Path, name: str, *, needed: bool = True) -> Iterator[Any]:
    found = [folder / f"{name}.{format}" for format in FORMATS if (folder / f"{name}.{format}").is_file()]
    if not found and not needed:
        return
    if len(found) != 1:
        raise ReelignError(
            f"{folder} has {len(found) or 'no'} tables of {name}",
            f"Give a folder with one {name}.parquet, .jsonl or .csv.",
        )
    for number, row in enumerate(_rows(found[0], SCHEMAS[name]), start=1):
        yield from_row(KINDS[name], row, where=f"{found[0]}, row {number}")


def _rows(path: Path, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    try:
        if path.suffix == ".jsonl":
            with path.open(encoding="utf-8") as file:
                for line in file:
                    yield json.loads(line)
        elif path.suffix == ".csv":
            yield from _csv_rows(path, schema)
        else:
            with parquet.ParquetFile(str(path)) as table:
                for batch in table.iter_batches(ROWS_AT_A_TIME):
                    yield from batch.to_pylist()
    except (pa.ArrowException, OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReelignError(f"{path} cannot be read: {error}", "Export it again.") from error


def _csv_rows(path: Path, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    # Arrow writes a text in quotes and nothing for none, so that an empty reason differs from no reason.
    convert = csv.ConvertOptions(column_types=schema, strings_can_be_null=True, quoted_strings_can_be_null=False)
    convert.null_values = [""]
    # Newlines within values split a block that ends between its quotes; a large block holds any sane cell.
    reading = csv.ReadOptions(block_size=16 << 20)
    parsing = csv.ParseOptions(newlines_in_values=True)
    with csv.open_csv(str(path), read_options=reading, parse_options=parsing, convert_options=convert) as table:
        for batch in table:
            yield from cast("list[dict[str, Any]]", batch.to_pylist())
