"""`reelign sample`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelign.cli.options import (
    GuideOption,
    LatentRewardOption,
    RunOption,
    Settings,
    WorkspaceOption,
    guide_layers,
    weights,
)

if TYPE_CHECKING:
    from reelign.recipes.best_of import BestVideo


def sample(
    prompt: Annotated[str, typer.Argument(help="What to show.")],
    settings: Settings = None,
    workspace: WorkspaceOption = Path("."),
    image: Annotated[Path | None, typer.Option(help="What it goes on from, for image-to-video models.")] = None,
    run: RunOption = "",
    guide: GuideOption = None,
    latent_reward: LatentRewardOption = None,
    best_of: Annotated[int, typer.Option(help="Candidates, of which the best is kept; 0 makes one video.")] = 0,
    by: Annotated[str, typer.Option(help="What chooses: a latent reward's folder or run, or a reward's name.")] = "",
    keep: Annotated[int, typer.Option(help="So many go on after a latent reward's look half-way; 0 is all.")] = 0,
    weigh: Annotated[str, typer.Option(help="Weights of what chooses, VQ=0.5,TA=1; all alike by default.")] = "",
    seed: Annotated[int, typer.Option(help="Of the noise; of the first candidate.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Where the mp4 goes.")] = None,
) -> None:
    """Make one video of a prompt, with the base or an aligned model; with `--guide` a latent reward bends its sampling,
    with `--best-of` a reward chooses among candidates.

    Example: `reelign sample "a red ring moves left" -w demo --run align --out ring.mp4`
    """
    layers = guide_layers(settings, guide, latent_reward)
    place: dict[str, Any] = {"image": image, "run": run, "seed": seed, "out": out}
    if not (best_of or by or keep or weigh):
        from reelign import stages

        print(stages.sample(workspace, prompt, layers=layers, **place))
        return
    from reelign import searching
    from reelign.config import resolve
    from reelign.recipes.best_of import BestOfSettings

    asked = {"keep": keep, "weights": weights(weigh) if weigh else {}, **({"candidates": best_of} if best_of else {})}
    how = resolve(BestOfSettings, [("the command line", asked)])
    path, found = searching.sample_best(workspace, prompt, by=by, how=how, layers=layers, **place)
    print("\n".join([str(path), *told(found)]))


def told(found: BestVideo) -> list[str]:
    """What a search found, in lines for a person: the best first, and those given up half-way last."""
    seeds = sorted(found.scores, key=lambda seed: _last(found.scores[seed]))
    lines = [f"seed {seed}: {found.scores[seed]:+.3f}" + _looked(found, seed) for seed in seeds]
    given_up = sorted(found.at_look.keys() - found.scores.keys(), key=lambda seed: _last(found.at_look[seed]))
    lines += [f"seed {seed}: given up" + _looked(found, seed) for seed in given_up]
    calls = f"{found.denoiser_calls} denoiser calls"
    saved = "" if found.denoiser_calls == found.plain_calls else f"; {found.plain_calls} would see all through"
    return [f"Best is seed {found.seed}, in {calls}{saved}.", *lines]


def _last(score: float) -> float:
    """A key by which the highest score comes first and what is no number last."""
    return float("inf") if score != score else -score


def _looked(found: BestVideo, seed: int) -> str:
    return f" ({found.at_look[seed]:+.3f} half-way)" if seed in found.at_look else ""
