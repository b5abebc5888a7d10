"""`reelign annotate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelign.cli.options import Settings, WorkspaceOption, layers


def annotate(
    settings: Settings = None,
    workspace: WorkspaceOption = Path("."),
    invite: Annotated[
        list[str] | None, typer.Option(help="Print a personal link for this judge; may be given several times.")
    ] = None,
) -> None:
    """Serve the page where people judge the candidates of every prompt, and the admin's overview.

    Example: `reelign annotate -w wan host=0.0.0.0 --invite Ada --invite Ben`
    """
    from reelign import stages

    server = stages.annotate(workspace, layers=layers(settings))
    print(f"{server.questions} questions, {server.settings.judges_per_item} judges each")
    print(f"judge at  {server.address}")
    print(f"overview  {server.admin_link}")
    for name in invite or []:
        print(f"{name}  {server.invite(name)}")
    print("Ctrl-C ends it; every answer that a judge saw accepted is kept.", flush=True)
    server.run()
