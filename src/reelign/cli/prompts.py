"""`reelign prompts`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelign.cli.options import Settings, layers


def prompts(
    settings: Settings = None,
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="Whose split gets the prompts; they are new to it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A text file for them, a prompt a line, in place of the split.")
    ] = None,
) -> None:
    """Make prompts: categories and attributes combined at random, written out, doubles and bad ones dropped.

    Example: `reelign prompts -w wan count=200 writer.server.url=http://127.0.0.1:8000/v1`

    Without a writer the template puts the words. `reelign schema prompts` shows all settings.
    """
    from reelign import prompting

    made = prompting.prompts(workspace, out=out, layers=layers(settings))
    shares = ", ".join(f"{count} {name}" for name, count in made.by_category.items())
    print(f"{len(made.prompts)} prompts of {made.drafts} drafts" + (f": {shares}" if shares else ""))
    for reason, count in made.dropped.most_common():
        print(f"dropped: {count} x {reason}")
    for name, lacking in made.short.items():
        print(f"short: {name} lacks {lacking}; its words or its tries are at an end")
    if made.tally.counts["asked"]:
        print(f"writer: {made.tally}")
