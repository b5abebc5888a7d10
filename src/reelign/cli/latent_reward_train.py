"""`reelign latent-reward train`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from reelign.cli.options import Settings, WorkspaceOption, layers


def train(
    settings: Settings = None,
    workspace: WorkspaceOption = Path("."),
    data: Annotated[Path | None, typer.Option(help="A CSV in VideoReward's layout instead of judgements.")] = None,
) -> None:
    """Train a reward on noisy latents on what people said, over the first blocks of the workspace's model.

    Example: `reelign latent-reward train -w wan blocks=8 epochs=3`, then
    `reelign sample "a red kite" -w wan --guide VQ=0.5,MQ=1 --latent-reward latent-reward`
    """
    from reelign import latent_stages

    done = latent_stages.train_latent_reward(workspace, data=data, layers=layers(settings))
    for reason, count in done.left_out.items():
        print(f"left out: {count} x {reason}")
    if done.stopped is not None:
        print(f"ended before its last step: {done.stopped}")
    if done.alarm is not None:
        print(f"overfitting: {done.alarm}")
    for name, shares in done.accuracy.items():
        print(f"{name}: {ordered(shares)}")
    print(f"trained on {done.pairs} pairs; the latent reward is {done.reward}")


def ordered(shares: Sequence[float]) -> str:
    """Of the held-out pairs those that a dimension orders as people did, at each quarter of the noise; NaN where nobody
    decided."""
    if all(math.isnan(share) for share in shares):
        return "no held-out pair on which people decided, so that nothing says how well it orders"
    told = ("none decided" if math.isnan(share) else f"{share:.1%}" for share in shares)
    return f"of held-out pairs ordered right, from clean to noisy: {', '.join(told)}"
