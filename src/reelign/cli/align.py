"""`reelign align`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelign.cli.options import FormatOption, Settings, WorkspaceOption, layers


def align(
    settings: Settings = None,
    workspace: WorkspaceOption = Path("."),
    pairs: Annotated[
        Path | None, typer.Option(help="A file or folder of preferences; `reelign pairs PATH` shows what it holds.")
    ] = None,
    format: FormatOption = None,
) -> None:
    """Train an adapter on the workspace's preferences, or on those in a file or folder.

    Example: `reelign align -w wan --pairs pairs.csv objective.beta=500 trainer.steps=1000`
    """
    from reelign import stages

    done = stages.align(workspace, pairs=pairs, format=format, layers=layers(settings))
    for reason, count in done.left_out.items():
        print(f"left out: {count} x {reason}")
    if done.stopped is not None:
        print(f"ended before its last step: {done.stopped}")
    print(f"trained on {done.samples} samples; the adapter is {done.adapter}")
