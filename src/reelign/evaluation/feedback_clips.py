"""Videos read from files once each, some ahead of their turn, in batches of one size and frame rate."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from reelign.errors import ReelignError
from reelign.evaluation.feedback_data import Candidate
from reelign.training.caches import file_hash
from reelign.video import read_video
from reelign.video.files import Clip

HELD_BYTES = 2 << 30
"""What decoded videos that wait for others of their size may take together."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A decoded video that is to be scored for a prompt."""

    key: str
    prompt: str
    frames: Tensor
    """(F, 3, H, W)."""
    fps: float


def batches(
    candidates: Mapping[str, Candidate],
    *,
    batch_size: int,
    readers: int,
    frames_needed: int,
    refuse: Callable[[str, ReelignError], None],
) -> Iterator[list[Waiting]]:
    """Up to `batch_size` videos at once, alike in shape and frame rate; which come first is up to their sizes.

    Args:
        candidates: by key; several may share a file, which is read once.
        readers: threads that decode while others are scored.
        refuse: is told the key of a file that cannot be read or has fewer than `frames_needed` frames.
    """
    waiting: dict[tuple[object, ...], list[Waiting]] = {}
    for key, each, clip in _read_ahead(candidates, readers):
        if isinstance(clip, ReelignError):
            refuse(key, clip)
            continue
        if len(clip.frames) < frames_needed:
            refuse(key, _too_short(each.video, len(clip.frames), frames_needed))
            continue
        alike = (tuple(clip.frames.shape), clip.fps)
        waiting.setdefault(alike, []).append(Waiting(key, each.prompt, clip.frames, clip.fps))
        if len(waiting[alike]) == batch_size:
            yield waiting.pop(alike)
        elif sum(_bytes(part) for part in waiting.values()) > HELD_BYTES:
            yield waiting.pop(max(waiting, key=lambda one: _bytes(waiting[one])))
    yield from waiting.values()


def _bytes(part: Iterable[Waiting]) -> int:
    # The prompts of one video share its frames.
    return sum({id(one.frames): one.frames.nbytes for one in part}.values())


def _too_short(path: Path, frames: int, needed: int) -> ReelignError:
    return ReelignError(f"{path} has {frames} frames and the reward needs {needed}.", "Take another reward.")


def _read_ahead(
    candidates: Mapping[str, Candidate], readers: int
) -> Iterator[tuple[str, Candidate, Clip | ReelignError]]:
    by_file: dict[str, list[tuple[str, Candidate]]] = {}
    for key, each in candidates.items():
        by_file.setdefault(file_hash(each.video), []).append((key, each))
    queue: deque[tuple[list[tuple[str, Candidate]], Future[Clip]]] = deque()
    ahead = iter(by_file.values())
    pool = ThreadPoolExecutor(readers)
    try:
        while True:
            while len(queue) <= readers and (served := next(ahead, None)):
                queue.append((served, pool.submit(read_video, served[0][1].video)))
            if not queue:
                return
            served, reading = queue.popleft()
            clip = _result(reading)
            yield from ((key, each, clip) for key, each in served)
    finally:
        pool.shutdown(cancel_futures=True)


def _result(reading: Future[Clip]) -> Clip | ReelignError:
    try:
        return reading.result()
    except ReelignError as error:
        return error
