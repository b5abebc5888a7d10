"""`reelign reward train`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelign.cli.options import Settings, layers

if TYPE_CHECKING:
    from reelign.recipes.reward.card import RewardNumbers


def train(
    settings: Settings = None,
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="The workspace whose judgements it learns from.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="A CSV in VideoReward's layout instead of judgements.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder, where there is no workspace.")] = None,
) -> None:
    """Train a reward of VideoReward's architecture on what people said, and keep it as a folder that opens by its path.

    Example: `reelign reward train -w wan epochs=3`, or from VideoReward's weights with
    `reelign reward train --data pairs.csv --out my-reward start_from=KlingTeam/VideoReward`
    """
    from reelign import reward_stages

    here = Path() if workspace is None and data is None else workspace
    done = reward_stages.train_reward(here, data=data, out=out, layers=layers(settings))
    for reason, count in done.numbers.left_out.items():
        print(f"left out: {count} x {reason}")
    if done.numbers.stopped is not None:
        print(f"ended before its last step: {done.numbers.stopped}")
    if done.numbers.alarm is not None:
        print(f"overfitting: {done.numbers.alarm}")
    _print_accuracy(done.numbers)
    print(f"trained on {done.numbers.pairs} pairs; the reward is {done.reward}")
    opening = f"videoreward reward.options.model={done.reward}"
    print(f"measure it on other judgements: reelign reward evaluate {opening} --data FILE")


def _print_accuracy(numbers: RewardNumbers) -> None:
    for name, value in numbers.without_ties.items():
        with_ties = numbers.with_ties.get(name, math.nan)
        beside = "" if math.isnan(with_ties) else f", {with_ties:.1%} with ties"
        if not math.isnan(value):
            print(f"{name}: {value:.1%} of held-out pairs ordered right{beside}")
