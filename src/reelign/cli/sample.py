"""`reelign sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelign.cli.options import GuideOption, LatentRewardOption, RunOption, Settings, WorkspaceOption, guide_layers


def sample(
    prompt: Annotated[str, typer.Argument(help="What to show.")],
    settings: Settings = None,
    workspace: WorkspaceOption = Path("."),
    image: Annotated[Path | None, typer.Option(help="What it goes on from, for image-to-video models.")] = None,
    run: RunOption = "",
    guide: GuideOption = None,
    latent_reward: LatentRewardOption = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Where the mp4 goes.")] = None,
) -> None:
    """Make one video of a prompt, with the base or an aligned model; with `--guide` a latent reward bends its sampling.

    Example: `reelign sample "a red ring moves left" -w demo --run align --out ring.mp4`
    """
    from reelign import stages

    print(
        stages.sample(
            workspace,
            prompt,
            image=image,
            run=run,
            seed=seed,
            out=out,
            layers=guide_layers(settings, guide, latent_reward),
        )
    )
