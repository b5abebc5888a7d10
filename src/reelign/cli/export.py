"""`reelign export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelign.cli.options import WorkspaceOption


def export(
    out: Annotated[
        Path, typer.Argument(help="The file to write: .safetensors for an adapter, .csv, .parquet or .jsonl for pairs.")
    ],
    workspace: WorkspaceOption = Path("."),
    run: Annotated[str, typer.Option("--run", "-r", help="The run whose adapter is exported.")] = "align",
    format: Annotated[
        str, typer.Option(help="Of an adapter: `diffusers` or `comfyui` (original keys with alpha).")
    ] = "diffusers",
) -> None:
    """Write a run's adapter for other tools, or the workspace's preferences as a file of pairs.

    Example: `reelign export align.safetensors -w demo --run align --format comfyui`
    """
    from reelign import publishing, stages

    if out.suffix == ".safetensors":
        print(publishing.export_adapter(workspace, out, run=run, format=format))
    else:
        print(f"{stages.export_pairs(workspace, out)} pairs in {out}")
