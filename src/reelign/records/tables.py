"""Tables as files: CSV, Parquet, JSONL, a JSON list, and a Hugging Face `datasets` folder, all as columns by name."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reelign.errors import ReelignError
from reelign.files import whole

SUFFIXES = (".csv", ".parquet", ".jsonl", ".json")
WRITTEN = (".csv", ".parquet", ".jsonl")

Columns = dict[str, list[Any]]


def read_columns(path: Path) -> Columns:
    """Columns by name, all of one length; of a CSV all as text, so that a prompt "2024" is no number.

    Raises:
        ReelignError: a file of another kind by its name, an empty or unreadable one.
    """
    if path.is_dir():
        return _read_dataset(path)
    reader = {".csv": _read_csv, ".parquet": _read_parquet, ".jsonl": _read_jsonl, ".json": _read_json}.get(path.suffix)
    if reader is None:
        raise ReelignError(
            f"{path} is neither CSV nor Parquet nor JSONL by its name", f"Use a name that ends in {_any_of(SUFFIXES)}."
        )
    try:
        return reader(path)
    except (OSError, ValueError) as error:  # pyarrow's and json's errors are ValueErrors
        if isinstance(error, ReelignError):
            raise
        raise ReelignError(
            f"{path} cannot be read: {error}", f"Write the file again as {_any_of(WRITTEN, dots=False)}."
        ) from error


def write_columns(path: Path, columns: Mapping[str, list[Any]]) -> None:
    """Write a CSV, Parquet or JSONL by the suffix, whole or not at all.

    Raises:
        ReelignError: another suffix.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    check_writable(path)
    with whole(path) as beside:
        if path.suffix == ".jsonl":
            rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
            beside.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
            return
        write = arrow_csv.write_csv if path.suffix == ".csv" else parquet.write_table
        write(pa.table(dict(columns)), str(beside))


def check_writable(path: Path) -> None:
    if path.suffix not in WRITTEN:
        raise ReelignError(
            f"{path} is neither CSV nor Parquet nor JSONL by its name", f"Use a name that ends in {_any_of(WRITTEN)}."
        )


def is_dataset(folder: Path) -> bool:
    """Whether a folder is what `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def _read_csv(path: Path) -> Columns:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    with path.open(encoding="utf-8-sig", newline="") as file:
        names = next(csv.reader(file), [])
    if not names:
        raise ReelignError(f"{path} is empty", "Write a header and one row per pair.")
    table = arrow_csv.read_csv(
        str(path),
        parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
        convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
    )
    return _columns(table)


def _read_parquet(path: Path) -> Columns:
    from pyarrow import parquet

    return _columns(parquet.read_table(str(path)))


def _read_jsonl(path: Path) -> Columns:
    rows = []
    # Not splitlines: JSON leaves U+2028 and its like within a text as they are.
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ReelignError(
                    f"{path}, line {number} is no JSON: {error}", "Write one JSON object a line."
                ) from None
    return _from_rows(path, rows)


def _read_json(path: Path) -> Columns:
    return _from_rows(path, json.loads(path.read_text(encoding="utf-8-sig")))


def _from_rows(path: Path, rows: Any) -> Columns:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ReelignError(f"{path} is no list of objects", "Write one object per pair.")
    if not rows:
        raise ReelignError(f"{path} is empty", "Write one object per pair.")
    names: Iterable[str] = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _read_dataset(folder: Path) -> Columns:
    """A saved dataset is Arrow streams beside a list of their names: pyarrow reads it, without the `datasets` package.

    Of several splits `train` is read; any other is named by its own folder.
    """
    import pyarrow as pa

    if (folder / "dataset_dict.json").is_file():
        splits = json.loads((folder / "dataset_dict.json").read_text())["splits"]
        split = "train" if "train" in splits else splits[0] if len(splits) == 1 else None
        if split is None:
            raise ReelignError(f"{folder} has no split 'train', only {', '.join(splits)}", "Give one split's folder.")
        return _read_dataset(folder / split)
    try:
        state = json.loads((folder / "state.json").read_text())
        names = [each["filename"] for each in state["_data_files"]]
        tables = []
        for name in names:
            with pa.memory_map(str(folder / name)) as file:
                tables.append(pa.ipc.open_stream(file).read_all())
        return _columns(pa.concat_tables(tables))
    except (OSError, ValueError, KeyError) as error:
        raise ReelignError(
            f"{folder} cannot be read as a dataset on disk: {error}", "Write it again with Dataset.save_to_disk."
        ) from error


def _columns(table: Any) -> Columns:
    return {name: table.column(index).to_pylist() for index, name in enumerate(table.column_names)}


def _any_of(suffixes: tuple[str, ...], *, dots: bool = True) -> str:
    names = suffixes if dots else tuple({".csv": "CSV", ".parquet": "Parquet", ".jsonl": "JSONL"}[s] for s in suffixes)
    return f"{', '.join(names[:-1])} or {names[-1]}"
