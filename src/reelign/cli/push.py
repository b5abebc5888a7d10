"""`reelign push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelign.cli.options import WorkspaceOption


def push(
    repository: Annotated[str, typer.Argument(help="A hub repository, owner/name.")] = "",
    workspace: WorkspaceOption = Path("."),
    run: Annotated[str, typer.Option("--run", "-r", help="An evaluated run.")] = "align",
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the same files into a folder here instead.")
    ] = None,
) -> None:
    """Upload a run's adapter with a card of its config, data, gain and sample videos; `--to` keeps them here.

    Example: `reelign push me/wan-dpo -w wan --run align`
    """
    from reelign import publishing

    print(publishing.push(workspace, repository, folder=to, run=run))
