"""`reelign report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelign.cli.options import WorkspaceOption


def report(
    workspace: WorkspaceOption = Path("."),
    run: Annotated[str, typer.Option("--run", "-r", help="An evaluated run.")] = "align",
) -> None:
    """Write an evaluated run's `report.html` and `result.json`.

    Example: `reelign report -w demo --run align`
    """
    from reelign import reporting

    print(reporting.report(workspace, run=run))
