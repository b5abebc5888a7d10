"""`reelign align`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelign.cli.options import FormatOption, Settings, WorkspaceOption, layers
from reelign.cli.outlook import print_outlook

if TYPE_CHECKING:
    from reelign.recipes.offline.align import Aligned


def align(
    settings: Settings = None,
    workspace: WorkspaceOption = Path("."),
    pairs: Annotated[
        Path | None, typer.Option(help="A file or folder of preferences; `reelign pairs PATH` shows what it holds.")
    ] = None,
    format: FormatOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be read, loaded, done and written, and start nothing.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(help="Try it out: a few steps on so many pairs or videos, as RUN-smoke.")
    ] = None,
) -> None:
    """Train an adapter on the workspace's preferences, on those in a file or folder, online, on what a judge says of
    the policy's own videos (`stream=online judge=reward:NAME`), or by a reward's gradient (`stream=reward_gradient
    reward.name=NAME`).

    Example: `reelign align -w wan --pairs pairs.csv objective.beta=500 trainer.steps=1000`; with `--dry-run` it says
    what it would do, with `--limit 4` it tries everything out on four pairs.
    """
    from reelign import stages
    from reelign.training.launch import start_ranks

    if dry_run:
        found = stages.plan_alignment(workspace, pairs=pairs, format=format, limit=limit, layers=layers(settings))
        print_outlook(found)
        return
    done = stages.align(workspace, pairs=pairs, format=format, limit=limit, layers=layers(settings))
    if not start_ranks().main:
        return
    for reason, count in done.left_out.items():
        print(f"left out: {count} x {reason}")
    if done.stopped is not None:
        print(f"ended before its last step: {done.stopped}")
    print(f"{_trained(done, start_ranks().count)}; the adapter is {done.adapter}")
    if limit is not None:
        print(f"a step takes {done.seconds_per_step:.3g} s, and this process held {_gigabytes()} GB at most")


def _trained(done: Aligned, ranks: int) -> str:
    """What it was trained on; a reward's gradient makes videos afresh at every step and keeps none."""
    from reelign.opening import run_config

    settings = run_config(done.folder)["align"]
    if settings["stream"] != "reward_gradient":
        return f"trained on {done.samples} samples"
    # Edited clips bring prompts of their own, and the workspace's are not drawn from.
    drawn = f", of {_counted(done.samples, 'prompt')}" if settings["edit_from"] is None else ""
    return f"trained in {_counted(done.steps, 'step')} of {_counted(settings['batch_size'] * ranks, 'video')}{drawn}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _gigabytes() -> str:
    from reelign.costs import peak_memory_bytes

    return f"{peak_memory_bytes() / 1e9:.2f}"
