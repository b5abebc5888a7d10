"""`reelign rewards score`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelign.cli.options import options
from reelign.errors import ReelignError

if TYPE_CHECKING:
    from reelign.rewards import Reward


def score(
    reward: Annotated[str, typer.Argument(help="A reward's name, package.module:object, or http(s) URL.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[VIDEO]... [OPTIONS.yaml] [key=value]...", help="mp4 files, and the reward's options."),
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="What the videos show: one for all, or one for each in turn.")
    ] = None,
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="A workspace whose videos are scored instead.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Videos in one call of the reward.")] = 8,
) -> None:
    """Score video files, or all videos of a workspace, which keeps the scores.

    Example: `reelign rewards score sharpness a.mp4 b.mp4 --prompt "a cat jumps"`
    """
    files, settings = options(words)
    if bool(files) == (workspace is not None):
        raise ReelignError("It is not said what to score.", "Name video files, or a workspace: -w WORKSPACE")
    from reelign.rewards import open_reward

    opened = open_reward(reward, **settings)
    if workspace is not None:
        _workspace(opened, workspace, batch_size)
    else:
        _files(opened, [Path(file) for file in files], prompt or [], batch_size)


def _files(reward: Reward, files: list[Path], prompts: list[str], batch_size: int) -> None:
    from reelign.recipes.scoring import score_files

    if len(prompts) == 1:
        prompts = prompts * len(files)
    if len(prompts) != len(files):
        raise ReelignError(
            f"{len(files)} videos came with {len(prompts)} prompts.", 'Give one for all, --prompt "a cat", or one each.'
        )
    scores, failures = score_files(reward, list(zip(files, prompts, strict=True)), batch_size=batch_size)
    for row, file in enumerate(files):
        print("  ".join([str(file), *(f"{name} {values[row].item():.4f}" for name, values in scores.items())]))
    if failures:
        raise ReelignError(f"{failures}.", "Their nan is no score.")


def _workspace(reward: Reward, folder: Path, batch_size: int) -> None:
    from reelign.recipes.scoring import score_videos
    from reelign.records import Workspace

    opened = Workspace.open(folder)
    texts = {prompt.id: prompt.text for prompt in opened.prompts()}
    videos = [(video, texts[video.prompt_id]) for video in opened.videos()]
    scores, failures = score_videos(opened, [reward], videos, batch_size=batch_size)
    found = scores[reward.name]
    print(f"{len(found)} of {len(videos)} videos have scores of {reward.name} (version {reward.version})")
    for name in reward.dimensions:
        values = [each[name] for each in found.values() if name in each]
        if values:
            print(f"  {name}: mean {sum(values) / len(values):.4f}, from {min(values):.4f} to {max(values):.4f}")
    if failures[reward.name]:
        print(failures[reward.name])
