"""`reelign iterate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelign.cli.options import Settings, WorkspaceOption, layers

if TYPE_CHECKING:
    from reelign.iterating import IterationOutlook
    from reelign.recipes.rounds.iterate import Iterated
    from reelign.recipes.rounds.manifest import Record

WAITS = 3
"""The exit code of rounds that wait for people."""


def iterate(
    settings: Settings = None,
    workspace: WorkspaceOption = Path("."),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be made, judged and trained, and start nothing.")
    ] = False,
) -> None:
    """Run rounds: candidates, judgements, alignment, the next round from its policy; the best round is kept.

    Example: `reelign iterate -w wan rounds=3 judge.judge=reward:videoreward selection.scorer=reward:videoscore`

    Killed at any point, the same command goes on; where a round asks people it ends with exit code 3, and goes on when
    they have judged.
    """
    from reelign import iterating

    if dry_run:
        _print_outlook(iterating.plan_iteration(workspace, layers=layers(settings)))
        return
    done = iterating.iterate(workspace, layers=layers(settings))
    from reelign.training.launch import start_ranks

    if start_ranks().main:
        _print_done(done, workspace)
    if done.waiting is not None:
        raise typer.Exit(WAITS)


def _print_outlook(found: IterationOutlook) -> None:
    from reelign.recipes.rounds.parts import PEOPLE

    settings, rounds = found.settings, len(found.plans)
    print(f"up to {rounds} rounds, {found.done} of them trained already; runs/{settings.run} gets the best")
    for plan in found.plans:
        align = plan.align
        print(
            f"round {plan.number}: {found.candidates} videos ({found.prompts[settings.split]} prompts x "
            f"{plan.generate.candidates}), judged by {plan.judge.judge}; {align.objective.name}, "
            f"{align.trainer.steps} steps of {align.batch_size}, anchors {align.anchors.chosen:g} on chosen and "
            f"{align.anchors.real:g} on real videos"
        )
    what = "videos" if settings.answers == "pointwise" else "pairs"
    if found.plans[0].judge.judge != PEOPLE:
        print(f"each judge is asked about {found.questions} {what} a round, on every dimension")
    if settings.refresh.critic:
        print(
            f"between rounds the judge is trained again on what {settings.refresh.critic} says of the candidates "
            f"consistently and with a certainty of at least {settings.refresh.min_certainty:g}"
            f"{', and on what people say' if settings.refresh.people else ''}"
        )
    if settings.people:
        print(f"{settings.people} people are asked about {found.questions} {what} a round; it waits for them")
    for which, videos in found.looked.items():
        held = getattr(settings, which)
        print(f"{which}: {held.scorer} on {videos} videos of the split {held.split}, of the base and after every round")
    print("Nothing was started.")


def _means(look: Record) -> str:
    """By dimension; of the base in the eyes of a judge that compares there are none."""
    told = " ".join(f"{name} {value:.3f}" for name, value in look["mean"].items() if value is not None)
    wins = " (wins less losses)" if "against" in look else ""
    return f"{told}{wins}" if told else "is what the rounds stand beside"


def _print_done(done: Iterated, workspace: Path) -> None:
    for number, look in enumerate(done.looks):
        means = ", ".join(f"{which} {_means(each)}" for which, each in look.items())
        best = "  <- best" if number == done.decision.best else ""
        print(f"{f'round {number}' if number else 'base'}: {means}{best}")
    if done.waiting is not None:
        waiting = done.waiting
        print(
            f"round {waiting.round} waits for people: {waiting.open} of {waiting.questions} questions about its "
            f"candidates have too few judgements. Ask them: reelign annotate -w {workspace} "
            f"adapter='{waiting.adapter}'; then run the same command again."
        )
    elif done.decision.ended is not None:
        print(f"ended: {done.decision.ended}")
    if done.adapter is None:
        print("no round is better than the base by the selection judge; nothing is kept as the best")
    else:
        print(f"the best is round {done.decision.best}; its adapter is {done.adapter}")
    print(f"report: {done.folder / 'rounds.html'}")
