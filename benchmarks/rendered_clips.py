"""Clips of the small world that nobody had to sample, flaws and wrong words among them, and what people say of them."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from reelign.records import Group, Judgement, Video, Workspace
from reelign.spriteworld import judges
from reelign.spriteworld.people import people
from reelign.spriteworld.prompts import parse
from reelign.spriteworld.world import FPS, NUM_FRAMES, SIZE, render, sample_flaws, sample_scenes, swap_word
from reelign.video import read_video, write_video

DIMENSIONS = ("VQ", "MQ", "TA")
NEIGHBOURS = (1, 2, 3)
"""How many places apart the candidates of a pair stand, in a ring."""
WRONG = 0.5
"""Share of the clips that show one thing other than their prompt says."""


def add_clips(
    workspace: Workspace, split: str, candidates: int, chance: torch.Generator, *, seed: int, adapter: str = ""
) -> None:
    """So many clips of every prompt of a split, some of which show something else; `adapter` is what they are recorded
    under, a name of their own where they stand beside a model's samples."""
    for prompt in workspace.prompts(split):
        told = parse([prompt.text]).expand(candidates, -1)
        shown = swap_word(told, torch.rand(candidates, generator=chance) < WRONG, chance)
        scene = sample_scenes(candidates, chance, attributes=shown)
        videos = render(scene, flaws=sample_flaws(scene, chance))
        made = []
        for place, video in enumerate(videos):
            path = workspace.root / "videos" / f"{f'{adapter}-' if adapter else ''}{prompt.id}-{place}.mp4"
            write_video(path, video, FPS)
            made.append(
                Video(
                    id=path.stem,
                    prompt_id=prompt.id,
                    generator="spriteworld",
                    adapter=adapter,
                    seed=seed,
                    index=place,
                    settings={"shown": shown[place].tolist()},
                    path=f"videos/{path.name}",
                    fps=FPS,
                    num_frames=NUM_FRAMES,
                    height=SIZE,
                    width=SIZE,
                )
            )
        workspace.add_videos(made)


def judgements_of(groups: Iterable[Group], workspace: Workspace, chance: torch.Generator) -> list[Judgement]:
    """What three people say of each candidate beside the next three, in an order of sides that chance decides."""
    found = []
    for group in groups:
        videos = torch.stack([read_video(workspace.video_path(video)).frames for video in group.videos])
        true = judges.scores(videos, [group.prompt.text] * len(videos))
        around = torch.arange(len(videos))
        pairs = torch.cat([torch.stack([around, around.roll(-step)], dim=1) for step in NEIGHBOURS])
        turned = torch.rand(len(pairs), 1, generator=chance) < 0.5
        pairs = torch.where(turned, pairs.flip(1), pairs)
        difference = torch.stack([true[name][pairs[:, 0]] - true[name][pairs[:, 1]] for name in DIMENSIONS], dim=1)
        for person in people(3):
            found += [
                Judgement(
                    video_a=group.videos[a].id,
                    video_b=group.videos[b].id,
                    dimension=dimension,
                    verdict=verdict,
                    judge=person.name,
                    judge_version=person.version,
                )
                for (a, b), verdicts in zip(pairs.tolist(), person.decide(difference, chance), strict=True)
                for dimension, verdict in zip(DIMENSIONS, verdicts, strict=True)
            ]
    return found
