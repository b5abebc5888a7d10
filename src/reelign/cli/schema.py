"""`reelign schema`."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def schema(
    command: Annotated[
        str,
        typer.Argument(
            help="model, generate, judge, annotate, align, evaluate, reward, critic, latent_reward, iterate or prompts."
        ),
    ],
) -> None:
    """Print the JSON Schema of a command's settings, for editors.

    Example: `reelign schema align > align.schema.json`
    """
    from reelign.config import schema as json_schema
    from reelign.errors import ReelignError
    from reelign.opening import SECTIONS, section_kinds

    if command not in SECTIONS:
        raise ReelignError(f"There are no settings called {command!r}.", f"There are: {', '.join(SECTIONS)}.")
    print(json.dumps(json_schema(*section_kinds(command)), indent=2))
