"""`reelign rewards`: what there is to score with; `score` and `serve` have files of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from reelign.cli.rewards_score import score
from reelign.cli.rewards_serve import serve

if TYPE_CHECKING:
    from reelign.rewards import RewardCard

WIDE = 320
"""Columns where nobody's screen says otherwise: a row of the table is a line of a file or a pipe."""

app = typer.Typer(
    help="List the rewards; score videos with one; serve one to other environments.",
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

COMMANDS: dict[str, Callable[..., None]] = {
    "score": score,
    "serve": serve,
}
"""Of this group; the command line registers them beside its own."""


@app.callback()
def rewards(
    context: typer.Context,
    as_json: Annotated[
        bool, typer.Option("--json", help="All that is known of each, its options too, as JSON.")
    ] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="The table of docs/rewards.md.")] = False,
) -> None:
    """List the rewards: what each scores, how large it is, where its weights come from and under which licence.

    Example: `reelign rewards`
    """
    if context.invoked_subcommand is not None:
        return
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from reelign.rewards import REWARDS, card_of
    from reelign.rewards.opening import options_of

    cards = {name: card_of(name) for name in REWARDS}
    if as_json:
        told = {name: {**asdict(card), "options": options_of(name)} for name, card in cards.items()}
        print(json.dumps(told, indent=1))
        return
    if as_markdown:
        print(markdown(cards))
        return
    table = Table("reward", "dimensions", "gradient", "frames", "size", "licence", "weights", "extra")
    for name, card in cards.items():
        table.add_row(
            name,
            ", ".join(card.dimensions),
            "yes" if card.differentiable else "no",
            str(card.frames_needed),
            card.size or "no weights",
            card.licence or "-",
            card.weights or "-",
            card.extra or "-",
        )
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(table, markup=False)
    print("Anything else: package.module:object, or the http(s) URL of a reward that is served.")


def markdown(cards: Mapping[str, RewardCard]) -> str:
    """The cards as a table: a reward, what it looks at, and what it takes."""
    lines = [
        "| reward | what it looks at | dimensions | gradient | frames | weights, size, licence |",
        "|---" * 6 + "|",
    ]
    for name, card in cards.items():
        weights = f"`{card.weights}`, {card.size}, {card.licence}" if card.weights else "none"
        extra = f"; `pip install 'reelign[{card.extra}]'`" if card.extra else ""
        cells = [f"`{name}`", card.what, ", ".join(card.dimensions), "yes" if card.differentiable else "no"]
        lines.append("| " + " | ".join([*cells, str(card.frames_needed), weights + extra]) + " |")
    return "\n".join(lines)
