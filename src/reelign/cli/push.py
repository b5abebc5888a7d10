"""`reelign push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelign.cli.options import WorkspaceOption


def push(
    target: Annotated[str, typer.Argument(help="A hub repository such as me/wan-dpo, or a local folder.")],
    workspace: WorkspaceOption = Path("."),
    run: Annotated[str, typer.Option("--run", "-r", help="An evaluated run.")] = "align",
) -> None:
    """Upload a run's adapter with a card of its config, data, gain and sample videos.

    Example: `reelign push me/wan-dpo -w wan --run align`
    """
    from reelign import publishing

    print(publishing.push(workspace, target, run=run))
