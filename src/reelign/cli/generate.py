"""`reelign generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelign.cli.options import GuideOption, LatentRewardOption, RunOption, Settings, WorkspaceOption, guide_layers


def generate(
    settings: Settings = None,
    workspace: WorkspaceOption = Path("."),
    run: RunOption = "",
    guide: GuideOption = None,
    latent_reward: LatentRewardOption = None,
    model: Annotated[
        str | None, typer.Option(help="Make the workspace for this diffusers folder or hub id if it is not there yet.")
    ] = None,
) -> None:
    """Sample candidates for every prompt of a split.

    Example: `reelign generate -w wan candidates=6 num_inference_steps=30`
    """
    from reelign import stages

    if model is not None:
        stages.init(workspace, model=model)
    done = stages.generate(workspace, run=run, layers=guide_layers(settings, guide, latent_reward))
    print(f"{done.made} videos made, {done.already_there} were there, {len(done.failed)} failed")
    for failure in done.failed:
        print(f"  failed: {failure}")
