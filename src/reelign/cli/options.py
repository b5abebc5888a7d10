"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from reelign.config import Layer

WorkspaceOption = Annotated[Path, typer.Option("--workspace", "-w", help="The workspace folder.")]
RunOption = Annotated[str, typer.Option("--run", "-r", help="A run's name; empty is the base model.")]
FormatOption = Annotated[
    str | None, typer.Option(help="The layout of the preferences, where it is not to be recognised by what they hold.")
]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="[CONFIG.yaml] [key=value]...", help="A YAML file of settings, and overrides."),
]


def layers(words: list[str] | None) -> list[Layer]:
    """Settings from the words after a command: YAML files first, then `key=value`, in the order given."""
    from reelign.config import parse_overrides, read_yaml

    words = words or []
    files = [word for word in words if word.endswith((".yaml", ".yml")) and "=" not in word]
    found: list[Layer] = [(file, read_yaml(Path(file))) for file in files]
    return [*found, parse_overrides([word for word in words if word not in files])]


def options(words: list[str] | None) -> tuple[list[str], dict[str, Any]]:
    """Words after a reward's name: what is no setting, such as files, and the settings, later ones over earlier."""
    words = words or []
    files = [word for word in words if "=" not in word and not word.endswith((".yaml", ".yml"))]
    settings: dict[str, Any] = {}
    for _, layer in layers([word for word in words if word not in files]):
        settings |= layer
    return files, settings
