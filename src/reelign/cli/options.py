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
GuideOption = Annotated[
    str | None, typer.Option(help="Weights of a latent reward's dimensions that guide sampling: VQ=0.5,MQ=1,TA=0.2")
]
LatentRewardOption = Annotated[
    str | None, typer.Option(help="The latent reward's folder, or its run's name in the workspace.")
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


def guide_layers(words: list[str] | None, guide: str | None, latent_reward: str | None) -> list[Layer]:
    """`layers`, and over them what `--guide` and `--latent-reward` say."""
    asked: dict[str, Any] = {}
    if guide is not None:
        asked["weights"] = weights(guide)
    if latent_reward is not None:
        asked["latent_reward"] = latent_reward
    return [*layers(words), *([("the command line", {"guide": asked})] if asked else [])]


def weights(word: str) -> dict[str, float]:
    """`VQ=0.5,MQ=1` as numbers by name."""
    return {name: _number(word, value) for name, value in _named(word)}


def weight_lists(over: list[str] | None) -> dict[str, list[float]]:
    """`VQ=0,0.5,1` words as a dimension's weights each."""
    found = {}
    for word in over or []:
        name, equals, values = word.partition("=")
        if not equals or not name:
            raise _refused(word, "VQ=0,0.5,1")
        found[name] = [_number(word, value) for value in values.split(",")]
    return found


def _named(guide: str) -> list[tuple[str, str]]:
    pairs = [part.partition("=") for part in guide.split(",")]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        raise _refused(guide, "VQ=0.5,MQ=1")
    return [(name.strip(), value) for name, _, value in pairs]


def _number(word: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise _refused(word, "VQ=0.5,MQ=1") from None


def _refused(word: str, example: str) -> Exception:
    from reelign.errors import ReelignError

    return ReelignError(f"{word!r} is no list of weights.", f"Write dimensions and numbers, as in {example}.")
