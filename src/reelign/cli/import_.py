"""`reelign import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelign.cli.options import WorkspaceOption


def import_(
    path: Annotated[Path, typer.Argument(help="A file or folder of judgements, as `reelign export` writes them.")],
    workspace: WorkspaceOption = Path("."),
    format: Annotated[
        str | None, typer.Option(help="The format's name, where it is not to be recognised by its look.")
    ] = None,
    judge: Annotated[str, typer.Option(help="Who judged, for a CSV of VideoReward's, which names nobody.")] = "",
) -> None:
    """Add judgements, and the videos they are about, from another workspace or tool.

    Example: `reelign import label-studio.json -w wan`
    """
    from reelign import stages

    added = stages.import_judgements(workspace, path, format=format, judge=judge)
    print(f"{added.judgements} judgements added to {workspace}, and {added.videos} videos")
