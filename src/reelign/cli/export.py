"""`reelign export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelign.cli.options import WorkspaceOption


def export(
    out: Annotated[
        Path,
        typer.Argument(
            help="The file to write: .safetensors for an adapter, .csv, .parquet or .jsonl for pairs; with a format of "
            "judgements, its file or folder."
        ),
    ],
    workspace: WorkspaceOption = Path("."),
    run: Annotated[str, typer.Option("--run", "-r", help="The run whose adapter is exported.")] = "align",
    format: Annotated[
        str,
        typer.Option(
            help="Of an adapter: `diffusers` or `comfyui` (original keys with alpha). Of judgements: a folder of "
            "`parquet`, `jsonl`, `csv` or `datasets`, or a file of `label-studio`, `argilla` or `videoreward`."
        ),
    ] = "diffusers",
) -> None:
    """Write a run's adapter for other tools, the workspace's preferences as a file of pairs, or all its judgements.

    Example: `reelign export align.safetensors -w demo --run align --format comfyui`
    """
    from reelign import publishing, stages

    if out.suffix == ".safetensors":
        print(publishing.export_adapter(workspace, out, run=run, format=format))
    elif format in ("diffusers", "comfyui"):
        print(f"{stages.export_pairs(workspace, out)} pairs in {out}")
    else:
        count = stages.export_judgements(workspace, out, format)
        print(f"{count} {'judged pairs' if format == 'videoreward' else 'judgements'} in {out}")
