"""`reelign demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    folder: Annotated[Path, typer.Argument(help="The workspace to make.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Of everything the demo draws.")] = 0,
    controls: Annotated[
        bool, typer.Option("--controls", help="Also SFT on random samples, and swapped pairs.")
    ] = False,
) -> None:
    """Run the whole loop on the small world: prompts, videos, judgements, Flow-DPO, comparison, report.

    Example: `reelign demo`
    """
    from reelign.demo import run_demo

    run_demo(folder, seed=seed, controls=controls)
