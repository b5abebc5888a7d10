"""Best of N candidates of one prompt, as a Python call: `sample_best("workspace", "a red kite", by="...")`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reelign.config import Layer
from reelign.costs import measured
from reelign.errors import ReelignError
from reelign.files import prepare_file
from reelign.opening import load_model, settings_of, use_run
from reelign.recipes.best_of import BestOfSettings, BestVideo, Search
from reelign.recipes.latent_reward.training import REWARD_FOLDER
from reelign.recipes.sampling import GenerateSettings, Sampling, refuse_segments
from reelign.records import Workspace, image_prompt
from reelign.rewards.judging import PREFIX
from reelign.rewards.opening import check_reward, open_reward
from reelign.training.latent_reward_files import DESCRIPTION, load_latent_reward
from reelign.video import write_video

LARGEST_SEED = 2**63 - 1


def sample_best(
    workspace: str | Path,
    prompt: str,
    *,
    by: str,
    how: BestOfSettings | None = None,
    image: str | Path | None = None,
    run: str = "",
    seed: int = 0,
    out: str | Path | None = None,
    layers: list[Layer] | None = None,
    **settings: Any,
) -> tuple[Path, BestVideo]:
    """Sample a prompt from the seeds `seed`, `seed + 1`, … and write the video that a reward likes best.

    Args:
        workspace: its folder.
        prompt: what is shown.
        by: the folder of a latent reward or its run's name in the workspace; else a reward, as `open_reward` takes it.
        how: how many candidates, by which weights, and whether the worst are given up half-way.
        image: what the videos go on from, for image-to-video models.
        run: of an aligned model; '' is the base.
        seed: of the first candidate.
        out: the mp4.
        settings: over the section `generate`.
    Returns:
        the mp4, and what was found.
    Raises:
        ReelignError: neither a latent reward nor a reward by that name, or a guide in the settings.
    """
    how = how or BestOfSettings()
    if not by:
        raise ReelignError(
            "Nothing is named that chooses the best video.", "Give --by FOLDER of a latent reward, or --by REWARD."
        )
    if not 0 <= seed <= LARGEST_SEED - how.candidates:
        raise ReelignError(
            f"From the seed {seed} on there are not {how.candidates} seeds of torch's generators.",
            "Give a whole number from 0 on, well below 2^63.",
        )
    opened = Workspace.open(workspace)
    wanted: GenerateSettings = settings_of(opened, "generate", layers, settings)
    if wanted.guide.active:
        raise ReelignError(
            "A search over seeds compares candidates as the model makes them, and these settings guide them.",
            "Leave out --guide and guide.weights, or --best-of.",
        )
    folder = latent_folder(opened, by)
    if folder is None:
        check_reward(by.removeprefix(PREFIX))
    asked = prompt if image is None else image_prompt(prompt, Path(image))
    path = Path(out) if out else Path(f"best-{run or 'base'}-{seed}.mp4")
    prepare_file(path)
    seeds = list(range(seed, seed + how.candidates))
    with measured(opened.root, "sample best", run):
        generator = load_model(opened)
        if run:
            use_run(opened, generator, run)
        sampling = Sampling.resolve(wanted, generator)
        search = Search(generator, sampling, asked, seeds, how, wanted.batch_size)
        if folder is None:
            found = search.by_pixels(open_reward(by.removeprefix(PREFIX)))
        else:
            refuse_segments(sampling, "a search by a latent reward")
            found = search.by_latents(load_latent_reward(folder, generator))
    write_video(path, found.video, sampling.fps)
    return path, found


def latent_folder(workspace: Workspace, by: str) -> Path | None:
    """Where the latent reward of that name lies; None where there is none."""
    places = [Path(by.removeprefix("latent:")), workspace.root / "runs" / by / REWARD_FOLDER]
    return next((place for place in places if (place / DESCRIPTION).is_file()), None)
