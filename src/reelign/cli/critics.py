"""`reelign critics`."""

from __future__ import annotations


def critics() -> None:
    """List the critics: models that give reasons and a verdict, here or behind a server.

    Example: `reelign critics`
    """
    from rich.console import Console
    from rich.table import Table

    from reelign.cli.rewards import WIDE
    from reelign.critics.table import CRITICS

    table = Table("critic", "what it is", "format", "size", "licence", "weights")
    for name, card in CRITICS.items():
        cells = (card.what, card.format, card.size or "-", card.licence or "-", card.weights or "-")
        table.add_row(name, *cells)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(table, markup=False)
    print("Anything else: package.module:object, or the http(s) URL of an OpenAI-compatible server.")
    print("Each judges as judge=critic:NAME; with critic.server.url=URL it is asked there and not loaded here.")
