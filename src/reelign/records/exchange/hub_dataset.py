"""A record as a Hugging Face `datasets` folder: Parquet tables under data/, and a card that says what they are."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from huggingface_hub import DatasetCard, DatasetCardData

from reelign.files import write_text
from reelign.records.exchange.bundle import Bundle
from reelign.records.exchange.tables import read_tables, write_tables

TABLES = ("judgements", "videos", "tasks", "scores")

_CARD = """---
{data}
---

# {name}

Human and machine judgements of generated videos, as [reelign](https://github.com/reelign/reelign) records them.

| table | rows | one row is |
|---|---|---|
| `judgements` | {judgements} | one verdict of one judge on one dimension; a later row may supersede it |
| `videos` | {videos} | a video, its prompt, and what made it |
| `tasks` | {tasks} | something that judges were asked |
| `scores` | {scores} | what a reward model says of a video on a dimension |

Dimensions: {dimensions}. Judgements by kind: {kinds}. Judges: {judges}.

    from datasets import load_dataset
    judgements = load_dataset("{name}", "judgements", split="train")

Nested values (`settings`, `candidates`, `defects`, `gold`) are JSON text, times are ISO 8601. The files of the videos
are named by `path` and are not part of this folder unless they were put there.
"""


def write_hub_dataset(folder: str | Path, bundle: Bundle, *, name: str, license: str | None = None) -> None:
    """Write a folder that `datasets.load_dataset` takes as it is, and that can be uploaded to the hub.

    Args:
        folder: where.
        bundle: the record.
        name: of the dataset, as in `user/name`.
        license: of the judgements, as the hub names it.
    """
    bundle = replace(bundle, judgements=list(bundle.judgements))
    write_tables(Path(folder) / "data", bundle, "parquet")
    data = DatasetCardData(
        license=license,
        task_categories=["text-to-video"],
        tags=["preference", "video-generation", "reelign"],
        configs=[
            {
                "config_name": table,
                "data_files": [{"split": "train", "path": f"data/{table}.parquet"}],
                **({"default": True} if table == "judgements" else {}),
            }
            for table in TABLES
        ],
    )
    judgements = list(bundle.judgements)
    kinds = Counter(each.kind for each in judgements)
    text = _CARD.format(
        data=data.to_yaml(),
        name=name,
        judgements=len(judgements),
        videos=len(bundle.videos),
        tasks=len(bundle.tasks),
        scores=len(bundle.scores),
        dimensions=", ".join(sorted({each.dimension for each in judgements})) or "none",
        kinds=", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "none",
        judges=len({each.judge for each in judgements}),
    )
    write_text(Path(folder) / "README.md", str(DatasetCard(text)))


def read_hub_dataset(folder: str | Path) -> Bundle:
    """Read what `write_hub_dataset` wrote.

    Raises:
        ReelignError: no tables there, or one that cannot be read.
    """
    return read_tables(Path(folder) / "data")
