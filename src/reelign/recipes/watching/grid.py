"""Before and after in one picture and one video: the base's videos above, the policy's below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from reelign.files import whole
from reelign.video import contact_sheet, read_video, write_video

TILE = 256
"""Pixels that the longer side of a video in the grid has at most."""
GAP = 4


def write_grid(
    folder: Path, name: str, videos: Mapping[int, Tensor], prompts: Sequence[str], fps: float
) -> Path | None:
    """Write `NAME/K.mp4` of each video, and with the base's `NAME.png` (rows) and `NAME.mp4` (columns); the grid video.

    Args:
        folder: the run's `samples/watch`; `base` there holds the base's videos.
        videos: by their place among the look's, (F, 3, H, W) in [0, 1]; NaN is shown black.
        prompts: of all the look's videos.
    """
    own = {number: folder / name / f"{number}.mp4" for number in videos}
    for number, path in own.items():
        write_video(path, videos[number].nan_to_num(0.0).clamp(0, 1), fps)
    base = {number: folder / "base" / path.name for number, path in own.items()}
    if name == "base" or not own or not all(path.exists() for path in base.values()):
        return None
    # Both as a player shows them: what the file costs one side it costs the other.
    before, after = ([read_video(path).frames for path in paths.values()] for paths in (base, own))
    shown, labels = [], []
    for number, one, other in zip(own, before, after, strict=True):
        shown += [one, other]
        labels += [f"base: {prompts[number]}", f"{name}: {prompts[number]}"]
    with whole(folder / f"{name}.png") as beside:
        contact_sheet(torch.stack(shown), labels).save(beside, format="PNG")
    path = folder / f"{name}.mp4"
    write_video(path, grid([before, after]), fps)
    return path


def grid(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Videos (F, 3, H, W) of one size as one (F, 3, H', W'): each inner sequence is a row; large ones are reduced."""
    lines = [torch.cat([_tile(video) for video in row], dim=-1) for row in rows]
    return torch.cat(lines, dim=-2)


def _tile(video: Tensor) -> Tensor:
    """With a white margin on all sides, and even sides."""
    scale = min(1.0, TILE / max(video.shape[-2:]))
    if scale < 1:
        size = [max(2, round(side * scale)) for side in video.shape[-2:]]
        video = F.interpolate(video, size=size, mode="bilinear", antialias=True).clamp(0, 1)
    height, width = video.shape[-2:]
    return F.pad(video, (GAP, GAP + width % 2, GAP, GAP + height % 2), value=1.0)
