"""`reelign latent-reward ...`: rewards on noisy latents; each command has a file of its own."""

from __future__ import annotations

from collections.abc import Callable

import typer

from reelign.cli.latent_reward_train import train

app = typer.Typer(
    help="Train a reward on noisy latents, which guides sampling.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

COMMANDS: dict[str, Callable[..., None]] = {"train": train}
"""Of this group; the command line registers them beside its own."""
