"""Videos of many requests scored together: a queue with a limit, batches as they come, scores kept by content."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from torch import Tensor

from reelign.errors import ReelignError

log = logging.getLogger(__name__)

Row = dict[str, float]
"""Dimension -> score of one video; NaN where it could not be scored."""


class Busy(Exception):
    """The queue is full; `retry_after_s` says when it will have moved on."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class Closed(Exception):
    """The server is ending."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One video to be scored."""

    key: str
    """Of its content, prompt and frame rate: equal keys have equal scores."""
    video: Tensor
    prompt: str
    fps: float | None
    arrived: float = field(default_factory=time.monotonic)
    answer: Future[Row] = field(default_factory=Future)


class Batcher:
    """One thread that scores what waits, `batch_size` at a time, longest waiting first."""

    def __init__(
        self,
        score: Callable[[Sequence[Item]], list[Row]],
        *,
        batch_size: int,
        wait_s: float,
        queue: int,
        cache: int,
    ) -> None:
        """Start the thread.

        Args:
            score: rows of items of one frame rate; called from this thread alone.
            wait_s: how long the first of a batch waits for others.
            queue: videos that may wait; more are refused.
            cache: videos whose scores are kept, those asked for last.
        """
        self._score = score
        self._batch_size = batch_size
        self._wait_s = wait_s
        self._limit = queue
        self._cache_size = cache
        self._cache: OrderedDict[str, Row] = OrderedDict()
        self._pending: dict[str, Future[Row]] = {}
        self._waiting: deque[Item] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._seconds_each = 0.0
        self.batches = self.scored = self.found = 0
        """Calls of `score`, videos that it scored, and videos whose scores were kept or already on their way."""
        self._thread = threading.Thread(target=self._run, name="reward", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Videos in the queue."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether what is handed in will be scored."""
        return self._thread.is_alive() and not self._closed

    @property
    def retry_after_s(self) -> int:
        """When the queue will have been worked off, in whole seconds from 1 to 60."""
        return min(60, max(1, math.ceil((self.waiting + self._batch_size) * self._seconds_each)))

    def submit(self, items: Sequence[Item]) -> list[Future[Row]]:
        """Hand in the videos of one request, all or none; a video that is known or already waiting is not queued.

        Raises:
            Busy: they do not fit into the queue.
            Closed: it was closed.
        """
        with self._changed:
            if self._closed:
                raise Closed
            fresh = {item.key: item for item in items if item.key not in self._cache and item.key not in self._pending}
            if len(self._waiting) + len(fresh) > self._limit:
                raise Busy(self.retry_after_s)
            self.found += len(items) - len(fresh)
            for item in fresh.values():
                self._pending[item.key] = item.answer
                self._waiting.append(item)
            answers = [self._answer(item.key) for item in items]
            self._changed.notify()
        return answers

    def _answer(self, key: str) -> Future[Row]:
        if key in self._pending:
            return self._pending[key]
        self._cache.move_to_end(key)
        known: Future[Row] = Future()
        known.set_result(self._cache[key])
        return known

    def close(self) -> None:
        """End the thread after its present batch; what still waits is answered with `Closed`."""
        with self._changed:
            self._closed = True
            left = list(self._waiting)
            self._waiting.clear()
            self._changed.notify()
        for item in left:
            item.answer.set_exception(Closed())
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            began = time.monotonic()
            self._work(batch)
            each = (time.monotonic() - began) / len(batch)
            self._seconds_each = each if not self._seconds_each else 0.8 * self._seconds_each + 0.2 * each

    def _next(self) -> list[Item]:
        """The next batch, once it is full or its first has waited long enough; none when closed."""
        with self._changed:
            while not self._closed:
                if self._waiting:
                    first = self._waiting[0]
                    batch = [item for item in self._waiting if item.fps == first.fps][: self._batch_size]
                    left_s = first.arrived + self._wait_s - time.monotonic()
                    if len(batch) == self._batch_size or left_s <= 0:
                        taken = {item.key for item in batch}
                        self._waiting = deque(item for item in self._waiting if item.key not in taken)
                        return batch
                    self._changed.wait(left_s)
                else:
                    self._changed.wait()
        return []

    def _work(self, batch: list[Item]) -> None:
        """Score a batch and answer; of one that fails each is tried alone, so that only the guilty fail."""
        try:
            self.batches += 1
            rows = self._score(batch)
        except Exception as error:
            if len(batch) > 1:
                for item in batch:
                    self._work([item])
                return
            if not isinstance(error, ReelignError):
                log.exception("a video of %r could not be scored", batch[0].prompt)
            self._settle(batch[0]).set_exception(error)
            return
        self.scored += len(batch)
        for item, row in zip(batch, rows, strict=True):
            self._settle(item, row).set_result(row)

    def _settle(self, item: Item, row: Row | None = None) -> Future[Row]:
        """Its answer, no longer pending; a whole row is kept, a failed one may do better next time."""
        with self._changed:
            del self._pending[item.key]
            if row is not None and all(math.isfinite(value) for value in row.values()):
                self._cache[item.key] = row
                while len(self._cache) > self._cache_size:
                    self._cache.popitem(last=False)
        return item.answer
