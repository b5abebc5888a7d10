"""Requests are scored together, within the queue's limit; equal videos once; only the guilty fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest
import torch

from reelign.errors import ReelignError
from reelign.rewards.batching import Batcher, Busy, Closed, Item, Row


class Scorer:
    """Scores by the key's length; waits at a gate first; refuses 'bad' and fails on 'broken'."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, items: Sequence[Item]) -> list[Row]:
        assert self.gate.wait(10)
        self.calls.append([item.key for item in items])
        if any(item.key == "bad" for item in items):
            raise ReelignError("bad", "none")
        if any(item.key == "broken" for item in items):
            raise ZeroDivisionError
        return [{"VQ": float("nan") if item.key == "dark" else float(len(item.key))} for item in items]


@pytest.fixture
def scorer() -> Scorer:
    return Scorer()


@pytest.fixture
def batcher(scorer: Scorer) -> Iterator[Batcher]:
    batcher = Batcher(scorer, batch_size=3, wait_s=0.05, queue=6, cache=4)
    yield batcher
    scorer.gate.set()
    batcher.close()


def items(*keys: str, fps: float = 8) -> list[Item]:
    return [Item(key=key, video=torch.zeros(1), prompt="", fps=fps) for key in keys]


def hold(scorer: Scorer, batcher: Batcher) -> None:
    """Have the thread busy with a batch of its own."""
    scorer.gate.clear()
    batcher.submit(items("x1", "x2", "x3"))
    until = time.monotonic() + 5
    while batcher.waiting:
        assert time.monotonic() < until
        time.sleep(0.001)


def test_requests_that_come_together_are_scored_together(scorer: Scorer, batcher: Batcher) -> None:
    hold(scorer, batcher)
    answers = [batcher.submit(items(key))[0] for key in ("a", "bb", "ccc", "dddd")]
    scorer.gate.set()
    assert [answer.result(5) for answer in answers] == [{"VQ": n} for n in (1.0, 2.0, 3.0, 4.0)]
    assert scorer.calls[1:] == [["a", "bb", "ccc"], ["dddd"]]


def test_a_lonely_video_waits_no_longer_than_said(batcher: Batcher) -> None:
    began = time.monotonic()
    assert batcher.submit(items("a"))[0].result(5) == {"VQ": 1.0}
    assert time.monotonic() - began < 2


def test_batches_are_of_one_frame_rate(scorer: Scorer, batcher: Batcher) -> None:
    hold(scorer, batcher)
    answers = batcher.submit(items("a")) + batcher.submit(items("b", fps=16)) + batcher.submit(items("c"))
    scorer.gate.set()
    assert len([answer.result(5) for answer in answers]) == 3
    assert scorer.calls[1:] == [["a", "c"], ["b"]]


def test_equal_videos_are_scored_once_waiting_or_done(scorer: Scorer, batcher: Batcher) -> None:
    hold(scorer, batcher)
    first, second = batcher.submit(items("a", "a"))
    (third,) = batcher.submit(items("a"))
    scorer.gate.set()
    assert first.result(5) == second.result(5) == third.result(5) == {"VQ": 1.0}
    assert batcher.submit(items("a"))[0].result(0) == {"VQ": 1.0}
    assert sum(call.count("a") for call in scorer.calls) == 1
    assert batcher.found == 3


def test_the_cache_forgets_what_was_asked_for_longest_ago_and_keeps_no_failures(
    scorer: Scorer, batcher: Batcher
) -> None:
    for key in ("a", "b", "c", "d", "dark"):
        batcher.submit(items(key))[0].result(5)
    batcher.submit(items("a"))[0].result(5)
    batcher.submit(items("e"))[0].result(5)
    known = len(scorer.calls)
    batcher.submit(items("a"))[0].result(5)
    assert len(scorer.calls) == known
    for key in ("b", "dark"):
        batcher.submit(items(key))[0].result(5)
    assert scorer.calls[known:] == [["b"], ["dark"]]


def test_a_full_queue_takes_all_of_a_request_or_nothing(scorer: Scorer, batcher: Batcher) -> None:
    hold(scorer, batcher)
    batcher.submit(items("a", "b", "c", "d"))
    with pytest.raises(Busy) as busy:
        batcher.submit(items("e", "f", "g"))
    assert 1 <= busy.value.retry_after_s <= 60
    assert batcher.waiting == 4
    assert len(batcher.submit(items("e", "f", "a"))) == 3, "what waits already takes no room"


def test_of_a_failed_batch_only_the_guilty_fail(scorer: Scorer, batcher: Batcher) -> None:
    hold(scorer, batcher)
    good, bad, other = batcher.submit(items("good", "bad", "other"))
    (broken,) = batcher.submit(items("broken"))
    scorer.gate.set()
    assert (good.result(5), other.result(5)) == ({"VQ": 4.0}, {"VQ": 5.0})
    with pytest.raises(ReelignError, match="bad"):
        bad.result(5)
    with pytest.raises(ZeroDivisionError):
        broken.result(5)
    assert batcher.alive
    assert batcher.submit(items("bad"))[0].exception(5) is not None, "a failure is not kept"


def test_what_waits_when_it_closes_is_told(scorer: Scorer) -> None:
    batcher = Batcher(scorer, batch_size=3, wait_s=10, queue=6, cache=4)
    (answer,) = batcher.submit(items("a"))
    batcher.close()
    assert isinstance(answer.exception(0), Closed)
    assert not batcher.alive
    with pytest.raises(Closed):
        batcher.submit(items("b"))
