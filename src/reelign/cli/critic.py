"""`reelign critic ...`: critics of one's own, trained and measured; each command has a file of its own."""

from __future__ import annotations

from collections.abc import Callable

import typer

from reelign.cli.critic_evaluate import evaluate
from reelign.cli.critic_train import train

app = typer.Typer(
    help="Train a critic on judgements and their reasons, and measure how well critics agree with people.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "evaluate": evaluate,
}
"""Of this group; the command line registers them beside its own."""
