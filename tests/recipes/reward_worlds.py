"""Clips whose brightness is their quality, pairs of them with labels, and a tiny backbone to learn it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from reelign.recipes.reward.data import RewardClip, RewardData
from reelign.recipes.reward.settings import RewardLoRA, RewardSettings, WatchSettings
from reelign.rewards.qwen_vision import ClipSettings
from reelign.training.settings import TrainerSettings
from reelign.video import write_video

PROMPTS = ("a red square", "a blue disc", "a ring", "a cross", "a triangle", "a star")
PER_PROMPT = 4


def write_clips(folder: Path) -> list[list[Path]]:
    """By prompt, clips of a moving square from dark to bright, 4 frames of 32 x 32 at 4 frames a second."""
    found = []
    for number in range(len(PROMPTS)):
        own = []
        for place in range(PER_PROMPT):
            video = torch.full((4, 3, 32, 32), 0.1 + 0.25 * place + 0.01 * number)
            for frame in range(4):
                video[frame, number % 3, 4:12, 4 * frame : 4 * frame + 8] = 0.5
            path = folder / f"{number}-{place}.mp4"
            write_video(path, video.clamp(0, 1), fps=4)
            own.append(path)
        found.append(own)
    return found


def bright_data(folder: Path, dimensions: tuple[str, ...] = ("VQ", "TA")) -> RewardData:
    """All pairs of each prompt's clips: the brighter one is better on the first dimension and the darker one on the
    second, but neighbours in brightness are ties there."""
    clips, pairs, labels = [], [], []
    for prompt, own in zip(PROMPTS, write_clips(folder), strict=True):
        start = len(clips)
        clips += [RewardClip(path=path, prompt=prompt, name=path.stem) for path in own]
        for a in range(PER_PROMPT):
            for b in range(a + 1, PER_PROMPT):
                # Sides in turn, so that the better one is not always the second.
                flip = (a + b) % 2
                pairs.append([start + b, start + a] if flip else [start + a, start + b])
                sign = 1.0 if flip else -1.0
                labels.append([sign, 0.0 if b == a + 1 else -sign][: len(dimensions)])
    return RewardData(
        dimensions=dimensions,
        clips=tuple(clips),
        pairs=torch.tensor(pairs),
        labels=torch.tensor(labels),
        scores=torch.full((len(clips), len(dimensions)), torch.nan),
    )


def tiny_settings(backbone: Path, **changes: object) -> RewardSettings:
    base = RewardSettings(
        backbone=str(backbone),
        dimensions=("VQ", "TA"),
        agnostic=("VQ",),
        template="short",
        lora=RewardLoRA(rank=4, alpha=8),
        clips=ClipSettings(fps=4, min_pixels=28 * 28, max_pixels=28 * 28),
        batch_size=6,
        micro_batch_size=6,
        epochs=0,
        trainer=TrainerSettings(steps=4, learning_rate=3e-3, checkpoint_every=2),
        watch=WatchSettings(held_out=0.2, calibration=0.2, every=2),
        device="cpu",
    )
    return replace(base, **changes)  # type: ignore[arg-type]
