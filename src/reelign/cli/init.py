"""`reelign init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    folder: Annotated[Path, typer.Argument(help="The workspace to make.")],
    model: Annotated[str, typer.Option(help="A diffusers folder, a hub id, or `spriteworld`.")] = "spriteworld",
    prompts: Annotated[
        Path | None, typer.Option(help="Training prompts, one a line; with images a table, text,image.")
    ] = None,
    held_out: Annotated[Path | None, typer.Option(help="Held-out prompts, likewise.")] = None,
    database: Annotated[
        str | None, typer.Option(help="A PostgreSQL URL for a team; without it, a file in the workspace.")
    ] = None,
) -> None:
    """Make a workspace and fill it with prompts.

    Example: `reelign init wan --model Wan-AI/Wan2.1-T2V-1.3B-Diffusers --prompts train.txt --held-out test.txt`
    """
    from reelign import stages
    from reelign.opening import is_unseen

    workspace = stages.init(folder, model=model, prompts=prompts, held_out=held_out, database=database)
    counts = {split: len(workspace.prompts(split)) for split in ("train", "held_out")}
    print(
        f"{workspace.root}: {counts['train']} training and {counts['held_out']} held-out prompts for {workspace.model}"
    )
    if is_unseen(workspace.model):
        print(f"{workspace.model} is not here yet: whether the hub has it is seen when it is first loaded.")
