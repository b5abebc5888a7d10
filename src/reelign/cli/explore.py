"""`reelign explore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelign.cli.options import GuideOption, LatentRewardOption, RunOption, Settings, WorkspaceOption, guide_layers


def explore(
    prompt: Annotated[str, typer.Argument(help="What to show.")],
    settings: Settings = None,
    workspace: WorkspaceOption = Path("."),
    over: Annotated[
        list[str] | None, typer.Option(help="A dimension and its weights; twice: down the page and across.")
    ] = None,
    guide: GuideOption = None,
    latent_reward: LatentRewardOption = None,
    run: RunOption = "",
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    scorer: Annotated[str, typer.Option(help="A judge that guided nothing, shown beside the latent reward.")] = "",
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("explorer.html"),
) -> None:
    """Show one prompt and seed under every combination of two guidance weights, on one HTML page.

    Example: `reelign explore "a red ring moves left" -w demo --latent-reward latent-reward --over VQ=0,0.5,1
    --over MQ=0,0.5,1`
    """
    from reelign import latent_stages
    from reelign.cli.options import weight_lists

    print(
        latent_stages.explore(
            workspace,
            prompt,
            weight_lists(over),
            out=out,
            run=run,
            seed=seed,
            scorer=scorer,
            layers=guide_layers(settings, guide, latent_reward),
        )
    )
