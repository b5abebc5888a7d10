"""Many videos through a Qwen-VL reward: each prepared once, those of like length together, one forward per batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.base import Reward, Videos, check_input
from reelign.rewards.qwen_vision import Patches
from reelign.rewards.qwen_vl import ClipBatch


def score_in_batches(
    reward: Reward,
    videos: Videos,
    prompts: Sequence[str],
    fps: float | None,
    *,
    look: Callable[[Tensor, float, torch.device], Patches],
    batch: Callable[[Sequence[Patches], Sequence[str]], ClipBatch],
    forward: Callable[[ClipBatch], Tensor],
    device: torch.device,
    batch_size: int,
) -> Tensor:
    """Raw scores of videos of any lengths and sizes.

    Args:
        reward: for its name and needs.
        videos, prompts, fps: as for `Reward.score`.
        look: from a video (F, 3, H, W) and its frame rate to its patches, on a device.
        batch: from patches and prompts to what `forward` takes.
        forward: from B videos to (B, dimensions).
        device: where `forward` runs.
        batch_size: most videos in one forward call.
    Returns:
        (B, dimensions) float32, in the order of the videos; with a gradient to those that require one.
    Raises:
        ReelignError: input that cannot be scored, no frame rate among it.
    """
    check_input(reward, videos, prompts, fps=fps)
    if fps is None:
        raise ReelignError(
            f"The reward {reward.name!r} chooses frames by time, and no frame rate was given.",
            "Give fps, the frames per second of the videos.",
        )
    shown = list(videos)
    # One that is asked about under several prompts is looked at once.
    looked = {id(video): look(video, fps, device) for video in {id(video): video for video in shown}.values()}
    seen = [looked[id(video)] for video in shown]
    # Like lengths together: the shorter ones of a batch are padded to the longest.
    order = sorted(range(len(seen)), key=lambda index: len(seen[index].pixels))
    scores: list[Tensor] = []
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        prepared = batch([seen[index] for index in chosen], [prompts[index] for index in chosen])
        scores.append(forward(prepared.to(device)))
    back = torch.tensor(order, device=device).argsort()
    return torch.cat(scores).float()[back]
