"""`reelign pairs`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelign.cli.options import FormatOption, Settings, layers

if TYPE_CHECKING:
    from rich.console import Console

    from reelign.recipes.data.pair_summary import PairSummary

NAMED = 10
"""Broken rows told one by one; the others are counted."""


def pairs(
    path: Annotated[
        Path | None, typer.Argument(help="A file or folder of preferences; without it, the workspace's judgements.")
    ] = None,
    settings: Settings = None,
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="The workspace whose settings, or judgements, are taken.")
    ] = None,
    format: FormatOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the pairs (or labels) as .csv, .parquet or .jsonl, without broken rows.")
    ] = None,
) -> None:
    """Show what preferences hold: pairs, ties, what is left out or broken, each dimension's balance, margins.

    Example: `reelign pairs videogen-rewardbench.csv pairs=agreed --out agreed.csv`
    """
    from rich.console import Console

    from reelign import stages

    words = list(settings or [])
    if path is not None and "=" in path.name and not path.exists():
        # Without a path the first override would be taken for one.
        path, words = None, [str(path), *words]
    found = stages.pairs(path, workspace=workspace, format=format, out=out, layers=layers(words))
    console = Console(soft_wrap=True, highlight=False)
    _counts(console, found)
    _dimensions(console, found)
    _margins(console, found)
    if out is not None:
        console.print(f"wrote {len(found.pairs) or len(found.labels)} rows to {out}", markup=False)


def _counts(console: Console, found: PairSummary) -> None:
    console.print(f"{found.source}: read as {found.format}, {found.rows} rows", markup=False)
    if found.pairs or not found.labels:
        console.print(f"{len(found.pairs)} pairs of {found.prompts} prompts")
    if found.labels:
        console.print(f"{len(found.labels)} labels of {found.prompts} prompts, {found.desirable} of them desirable")
    for reason, count in found.left_out.items():
        console.print(f"left out: {count} x {reason}", markup=False)
    for reason, count in Counter(broken.reason for broken in found.broken).items():
        console.print(f"broken: {count} x {reason}", markup=False)
    for broken in found.broken[:NAMED]:
        console.print(f"  {broken.where}: {broken.what}", markup=False)
    if len(found.broken) > NAMED:
        console.print(f"  and {len(found.broken) - NAMED} more")


def _dimensions(console: Console, found: PairSummary) -> None:
    from rich.table import Table

    if not found.dimensions:
        return
    table = Table("dimension", *("first better", "second better", "tie", "not judged", "agrees"))
    for name, each in found.dimensions.items():
        agreement = found.agreement(name)
        share = f"{agreement:.0%}" if agreement == agreement else "-"
        table.add_row(name, str(each.first), str(each.second), str(each.tie), str(each.unjudged), share)
    console.print(table)


def _margins(console: Console, found: PairSummary) -> None:
    from reelign.recipes.data.pair_summary import histogram

    margins = [pair.margin for pair in found.pairs]
    if len(set(margins)) < 2:
        return
    bars = histogram(margins)
    most = max(count for *_, count in bars)
    console.print("margins")
    for low, high, count in bars:
        console.print(f"  {low:6.2f} to {high:6.2f} {count:7d} {'█' * round(30 * count / most)}")
