"""Generate: candidates for every prompt of a split, kept as videos for people and latents for training."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from reelign.diffusion.seeds import seed_from
from reelign.errors import ReelignError
from reelign.files import whole
from reelign.generators.base import Generator
from reelign.recipes.candidates import Candidates
from reelign.recipes.sampling import GenerateSettings, Sampling
from reelign.records import Prompt, Video, Workspace, content_key, prompt_content
from reelign.training.latent_guide import guide_content, open_guide
from reelign.video import write_video


@dataclass(frozen=True)
class Generated:
    """What a call of `generate` did."""

    videos: list[Video]
    """All that was wanted and is there, ordered by prompt and place."""
    made: int
    already_there: int
    failed: tuple[str, ...]
    """Prompt and seed of each sample that came out not finite."""


def generate(workspace: Workspace, generator: Generator, settings: GenerateSettings, *, adapter: str = "") -> Generated:
    """Sample what the workspace does not have yet; interrupted, it goes on where it stopped.

    A recorded video whose file is gone or was changed is made again, under the same id.

    Args:
        workspace: holds the prompts and takes the videos.
        generator: with the adapter loaded, if `adapter` names one.
        settings: what to sample.
        adapter: the name recorded with the videos; '' for the base.
    Raises:
        ReelignError: the split has no prompts, or such as the model does not take (`check_images`), or the model cannot
            make that size.
    """
    prompts = {prompt.id: prompt for prompt in workspace.prompts(settings.split)}
    asked = {key: workspace.asked(prompt) for key, prompt in prompts.items()}
    if not prompts:
        raise ReelignError(
            f"The workspace has no prompts in split {settings.split!r}.",
            "Add some: reelign init FOLDER --prompts prompts.txt",
        )
    sampling = Sampling.resolve(settings, generator)
    how = {**sampling.as_dict(), **guide_content(settings.guide)}
    wanted = [
        _planned(prompt, asked[prompt.id], index, generator, adapter, sampling, how, settings.seed)
        for prompt in prompts.values()
        for index in range(settings.candidates)
    ]
    ids = {video.id for _, video in wanted}
    known = [video for video in workspace.videos(settings.split, adapter) if video.id in ids]
    damaged = {video.id for video in known if not workspace.has_file(video)}
    whole = {video.id for video in known} - damaged
    missing = [(text, video) for text, video in wanted if video.id not in whole]
    guide = open_guide(settings.guide, generator) if missing else None
    candidates = Candidates(generator, sampling, [text for text, _ in missing], guide=guide)
    failed: list[str] = []
    made = 0
    with tqdm(total=len(wanted), initial=len(wanted) - len(missing), desc="generate", unit="video") as bar:
        for start in range(0, len(missing), settings.batch_size):
            chunk = missing[start : start + settings.batch_size]
            videos = _make(workspace, candidates, chunk, failed)
            workspace.renew_videos(video for video in videos if video.id in damaged)
            made += len(videos)
            bar.update(len(chunk))
    there = [video for video in workspace.videos(settings.split, adapter) if video.id in ids]
    return Generated(videos=there, made=made, already_there=len(wanted) - len(missing), failed=tuple(failed))


def _planned(
    prompt: Prompt,
    asked: str,
    index: int,
    generator: Generator,
    adapter: str,
    sampling: Sampling,
    how: dict[str, Any],
    seed: int,
) -> tuple[str, Video]:
    """What is asked for and the record of a video to be made. Its seed depends on prompt and place alone, so that base
    and aligned pair."""
    own_seed = seed_from(seed, prompt.text, index)
    key = content_key(generator.identity, adapter, prompt_content(asked), prompt.split, own_seed, how)
    video = Video(
        id=key,
        prompt_id=prompt.id,
        generator=generator.identity,
        adapter=adapter,
        seed=own_seed,
        index=index,
        settings=how,
        path=f"videos/{key}.mp4",
        fps=sampling.fps,
        num_frames=sampling.num_frames,
        height=sampling.size.height,
        width=sampling.size.width,
    )
    return asked, video


def _make(
    workspace: Workspace, candidates: Candidates, chunk: list[tuple[str, Video]], failed: list[str]
) -> list[Video]:
    """Sample, decode and write one batch, then record it in one transaction."""
    found = candidates.make([text for text, _ in chunk], [video.seed for _, video in chunk])
    pixels, latents = found.videos.cpu(), found.latents
    long = candidates.sampling.segments > 1
    shard = f"latents/{content_key([video.id for _, video in chunk])}.safetensors"
    kept: dict[str, Tensor] = {}
    made: list[Video] = []
    for row, (text, video) in enumerate(chunk):
        if not bool(torch.isfinite(latents[row]).all()) or not bool(torch.isfinite(pixels[row]).all()):
            failed.append(f"{text!r} with seed {video.seed}")
            continue
        write_video(workspace.root / video.path, pixels[row], video.fps)
        if not long:  # one segment's latents are not those of the whole
            kept[video.id] = latents[row].cpu().contiguous()
            video.latents, video.latents_key = shard, video.id
        video.created = datetime.now(UTC)  # after its file, so that a change of the file is later
        made.append(video)
    if kept:
        write_tensors(workspace.root / shard, kept)
    if made:
        workspace.add_videos(made)
    return made


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all."""
    with whole(path) as beside:
        save_file(tensors, beside)
