"""Videos read ahead of the model: decoded, resized and cut by threads, and kept within a budget of memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar

from torch import Tensor

from reelign.critics.frames import Shown
from reelign.errors import ReelignError
from reelign.rewards.qwen_vision import Patches
from reelign.video import read_video

Seen = TypeVar("Seen", bound=Patches | Shown)


class VideoStore(Generic[Seen]):
    """What a model looks at of video files, patches or frames, a byte per value.

    Threads and not processes: decoder and resizing work outside Python's lock, and patches need no copying. A video
    that is asked for again while it is kept is not read again.

    Args:
        look: what a video becomes, such as `ClipPreparer.look`; called with frames (F, 3, H, W) and their rate.
        budget_bytes: kept at most, beside what the present batch needs; the longest unused go first.
        workers: threads.
    """

    def __init__(self, look: Callable[[Tensor, float], Seen], *, budget_bytes: float, workers: int) -> None:
        self.look = look
        self.budget_bytes = budget_bytes
        self.read = 0
        """Videos read so far, those read again among them."""
        self._kept: OrderedDict[Path, Future[Seen]] = OrderedDict()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="clips")
        self._lock = threading.Lock()

    def ahead(self, paths: Iterable[Path]) -> None:
        """Start to read what is not there, and do not wait."""
        for path in dict.fromkeys(paths):
            if path not in self._kept:
                self._kept[path] = self._pool.submit(self._read, path)

    def take(self, paths: Sequence[Path]) -> list[Seen]:
        """What is seen of these videos, read now where they are not there.

        Raises:
            ReelignError: a video cannot be read, or has too few frames; it is named.
        """
        self.ahead(paths)
        found = [self._kept[path].result() for path in paths]
        for path in paths:
            self._kept.move_to_end(path)
        self._shrink(keep=len(set(paths)))
        return found

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> VideoStore[Seen]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def held_bytes(self) -> int:
        """Of all that is read; what is still being read is not counted."""
        return sum(_bytes(each) for each in self._kept.values())

    def _read(self, path: Path) -> Seen:
        clip = read_video(path)
        with self._lock:
            self.read += 1
        try:
            return self.look(clip.frames, clip.fps)
        except ReelignError as error:
            raise ReelignError(f"{path}: {error.what}", error.mend) from error

    def _shrink(self, keep: int) -> None:
        """Drop the longest unused until the rest fits; the newest `keep`, and what is being read, stay."""
        over = self.held_bytes - self.budget_bytes
        for path in list(self._kept)[: len(self._kept) - keep]:
            if over <= 0:
                return
            if size := _bytes(self._kept[path]):
                over -= size
                del self._kept[path]


ClipStore = VideoStore[Patches]
"""Of what Qwen-VL towers take."""


def _bytes(waiting: Future[Seen]) -> int:
    """0 of what is not read yet or could not be."""
    if not waiting.done() or waiting.cancelled() or waiting.exception() is not None:
        return 0
    seen = waiting.result()
    return seen.pixels.nbytes if isinstance(seen, Patches) else seen.frames.nbytes
