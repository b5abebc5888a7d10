"""What an online run has made so far, what of it gave nothing to learn from, and what was seen of the candidates."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.failures import Failures

REASONS = {
    "equal": "group whose candidates stand equal",
    "conflict": "group on whose candidates the dimensions contradict each other",
    "unscored": "group with fewer than two candidates that could be scored",
}


@dataclass
class Counts:
    """Over all ranks, since the first step."""

    rollouts: int = 0
    candidates: int = 0
    samples: int = 0
    unscored: int = 0
    """Candidates."""
    empty: int = 0
    """Steps that found nothing to learn from."""
    empty_in_a_row: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    """Groups without a preference, by reason."""

    def add_groups(self, reasons: Sequence[str | None]) -> None:
        for reason in reasons:
            if reason is not None:
                self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def add_step(self, found: bool, failures: Failures, patience: int) -> None:
        """Count a step that found something, or nothing.

        Raises:
            ReelignError: the last one of `patience` steps in a row that found nothing.
        """
        self.empty += not found
        self.empty_in_a_row = 0 if found else self.empty_in_a_row + 1
        if self.empty_in_a_row >= patience:
            dropped = ", ".join(f"{count} x {REASONS[reason]}" for reason, count in self.dropped.items())
            raise ReelignError(
                f"{patience} rollouts in a row gave nothing to learn from (of the whole run: {dropped}; {failures}).",
                "Look at the videos and at the judge's scores; lower the tie band or selection.min_margin, raise "
                "rollout.candidates, or set selection.feedback=sum.",
            )

    def metrics(self) -> dict[str, float]:
        return {
            "online/candidates": self.candidates,
            "online/unscored": self.unscored,
            "online/empty_steps": self.empty,
            **{f"online/dropped_{reason}": self.dropped.get(reason, 0) for reason in REASONS},
        }

    def left_out(self) -> dict[str, int]:
        """What gave nothing to learn from, by reason."""
        found = {REASONS[reason]: count for reason, count in self.dropped.items()}
        found |= {"candidate that could not be scored": self.unscored, "step without a preference": self.empty}
        return {reason: count for reason, count in found.items() if count}


def seen(scores: Mapping[str, Tensor]) -> dict[str, float]:
    """Metrics of a rollout's scores {dimension: (groups, candidates)}: the mean over the candidates that were scored,
    and the standard deviation within a group, which is all that a preference can be read from."""
    found = {}
    for name, values in scores.items():
        groups = [each for row in values.double() if len(each := row[row.isfinite()]) > 1]
        if groups:
            found[f"reward/{name}"] = float(torch.cat(groups).mean())
            found[f"reward_spread/{name}"] = float(torch.stack([each.std() for each in groups]).mean())
    return found


class AtOnce(Executor):
    """Does what it is given before it is given more: an executor for what may, but need not, be done beside."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


class Clock:
    """Seconds by what they went to; what is timed within something else is taken from it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def time(self, name: str) -> Iterator[None]:
        inside = sum(self.seconds.values())
        began = self._now()
        try:
            yield
        finally:
            spent = self._now() - began - (sum(self.seconds.values()) - inside)
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def metrics(self) -> dict[str, float]:
        return {f"seconds/{name}": spent for name, spent in self.seconds.items()}

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
