"""`reelign reward ...`: rewards of one's own, trained and measured; each command has a file of its own."""

from __future__ import annotations

from collections.abc import Callable

import typer

app = typer.Typer(
    help="Train a reward on judgements, and measure how well rewards agree with people.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

COMMANDS: dict[str, Callable[..., None]] = {}
"""Of this group; the command line registers them beside its own."""
