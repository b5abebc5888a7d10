"""Scores of a workspace's videos by rewards: each video read and scored once, and kept."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from reelign.errors import ReelignError
from reelign.records import Score, Video, Workspace
from reelign.rewards.base import Reward, Videos
from reelign.rewards.failures import Failures
from reelign.rewards.judging import checked, refuse_relative
from reelign.video import Clip, read_video

T = TypeVar("T")
READERS = 2
"""Threads that decode; decoding leaves the interpreter free."""
Scores = dict[str, dict[str, float]]
"""Video id -> dimension -> score; what could not be scored is not there."""


def score_videos(
    workspace: Workspace, rewards: Sequence[Reward], videos: Sequence[tuple[Video, str]], *, batch_size: int = 8
) -> tuple[dict[str, Scores], dict[str, Failures]]:
    """Score what has no score of a reward's present version yet; interrupted, the same call goes on.

    A video is read once for all rewards. What could not be scored is not kept, and tried again by the next call.

    Args:
        videos: each with its prompt.
        batch_size: videos that are read, and scored in one call, at a time.
    Returns:
        By the reward's name: all scores of its present version, new and old, and what failed in this call.
    Raises:
        ReelignError: two rewards of one name, a video that cannot be read, or what a reward refuses.
    """
    for reward in rewards:
        refuse_relative(reward)
    versions = {reward.name: reward.version for reward in rewards}
    if len(versions) < len(rewards):
        raise ReelignError(
            f"Two rewards have one name: {', '.join(reward.name for reward in rewards)}.",
            "Ask them one after the other.",
        )
    found: dict[str, Scores] = {reward.name: {} for reward in rewards}
    for row in workspace.scores():
        if versions.get(row.reward) == row.reward_version:
            found[row.reward].setdefault(row.video, {})[row.dimension] = row.value
    failures = {reward.name: Failures() for reward in rewards}
    lacking = [(video, prompt) for video, prompt in videos if any(_lacks(found, each, video) for each in rewards)]
    with tqdm(total=len(lacking), desc="score", unit="video", disable=not lacking) as bar:
        for part, frames, fps in _read(lacking, workspace.video_path, batch_size):
            for reward in rewards:
                rows = [row for row, (video, _) in enumerate(part) if _lacks(found, reward, video)]
                if rows:
                    asked = [part[row] for row in rows]
                    scores = checked(reward, _together([frames[row] for row in rows]), [text for _, text in asked], fps)
                    failures[reward.name].add(scores, [video.path for video, _ in asked])
                    _keep(workspace, reward, [video for video, _ in asked], scores, found[reward.name])
            bar.update(len(part))
    return found, failures


def score_files(
    reward: Reward, files: Sequence[tuple[Path, str]], *, batch_size: int = 8
) -> tuple[dict[str, Tensor], Failures]:
    """Score video files of any sizes and frame rates.

    Args:
        files: each with its prompt.
    Returns:
        {dimension: (files,)}, NaN where one could not be scored, and what failed.
    Raises:
        ReelignError: a file that cannot be read, or what the reward refuses.
    """
    refuse_relative(reward)
    failures = Failures()
    parts = []
    for part, frames, fps in _read(files, lambda path: path, batch_size):
        parts.append(checked(reward, _together(frames), [prompt for _, prompt in part], fps))
        failures.add(parts[-1], [path for path, _ in part])
    return {name: torch.cat([part[name] for part in parts]) for name in reward.dimensions}, failures


def _lacks(found: Mapping[str, Scores], reward: Reward, video: Video) -> bool:
    return not set(reward.dimensions) <= set(found[reward.name].get(video.id, {}))


def _read(
    videos: Sequence[tuple[T, str]], path_of: Callable[[T], Path], size: int
) -> Iterator[tuple[list[tuple[T, str]], list[Tensor], float]]:
    """Batches of videos of one frame rate, which a call of a reward has one of; the next is decoded meanwhile."""
    part: list[tuple[T, str]] = []
    frames: list[Tensor] = []
    rate = 0.0
    clips = _ahead([path_of(video) for video, _ in videos], size)
    for (video, prompt), clip in zip(videos, clips, strict=True):
        if part and (len(part) == size or clip.fps != rate):
            yield part, frames, rate
            part, frames = [], []
        part.append((video, prompt))
        frames.append(clip.frames)
        rate = clip.fps
    if part:
        yield part, frames, rate


def _ahead(paths: Sequence[Path], size: int) -> Iterator[Clip]:
    """The clips in order, up to `size` of them decoded ahead."""
    with ThreadPoolExecutor(READERS) as pool:
        reading: deque[Future[Clip]] = deque()
        try:
            for path in paths:
                reading.append(pool.submit(read_video, path))
                if len(reading) > size:
                    yield reading.popleft().result()
            while reading:
                yield reading.popleft().result()
        finally:
            for each in reading:
                each.cancel()


def _together(frames: list[Tensor]) -> Videos:
    return torch.stack(frames) if len({each.shape for each in frames}) == 1 else frames


def _keep(
    workspace: Workspace, reward: Reward, videos: Sequence[Video], scores: Mapping[str, Tensor], found: Scores
) -> None:
    rows = []
    for dimension, values in scores.items():
        for video, value in zip(videos, values.tolist(), strict=True):
            if math.isfinite(value):
                found.setdefault(video.id, {})[dimension] = value
                rows.append(
                    Score(
                        video=video.id,
                        reward=reward.name,
                        reward_version=reward.version,
                        dimension=dimension,
                        value=value,
                    )
                )
    workspace.add_scores(rows)
