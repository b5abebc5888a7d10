"""What a critic is: a model that looks at videos, gives its reasons in words, and then its verdict."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from reelign.critics.writing import Written
from reelign.errors import ReelignError
from reelign.records import Verdict
from reelign.video import Clip

Grade = Literal["bad", "normal", "good"]
"""The verdict on one video, from worst to best (`records.answers.GRADES`)."""

TOLD = {
    "cut_off": "answers cut off",
    "unparseable": "answers unparseable",
    "refused": "questions refused",
    "retries": "requests sent again",
}
"""What a tally tells of where there is any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What a critic said of two videos on one dimension."""

    verdict: Verdict | None
    """The better one; None where there is none to be had, and `left_out` says why: it is never made up."""
    reason: str = ""
    """In the critic's words."""
    certainty: float | None = None
    """0 to 1: the verdict's share of the probability of all that could have been answered, or its share of the votes;
    None where the critic does not tell."""
    margin: float | None = None
    """The first video's score minus the second's, where the critic gives numbers; in units of its format."""
    left_out: str = ""
    """Why there is no verdict, such as 'unparseable' or 'inconsistent'; '' where there is one."""
    answers: tuple[str, ...] = ()
    """Every answer behind it, as written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rating:
    """What a critic said of one video on one dimension."""

    grade: Grade | None
    """None where there is none to be had, and `left_out` says why."""
    score: float | None = None
    """Higher is better, where the critic gives numbers; on the scale of its format."""
    reason: str = ""
    certainty: float | None = None
    """As of a comparison, of the grade or the score."""
    left_out: str = ""
    answers: tuple[str, ...] = ()


@dataclass
class Tally:
    """What was asked of a critic so far and what it took; may be added to from several threads."""

    counts: Counter[str] = field(default_factory=Counter)
    """asked, cached, cut_off, unparseable, refused, retries, prompt_tokens, completion_tokens, and what a vote leaves
    out."""
    cost: float = 0.0
    """In the currency of the prices given."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, *, cost: float = 0.0, **counts: int) -> None:
        with self._lock:
            self.counts.update(counts)
            self.cost += cost

    def add_written(self, written: Written) -> None:
        """One question, and what its answer took: nothing but the asking where it came from the cache."""
        self.add(asked=1, cached=int(written.cached), cut_off=int(not written.whole))
        if not written.cached:
            self.add(
                prompt_tokens=written.prompt_tokens,
                completion_tokens=written.completion_tokens,
                retries=written.again,
                cost=written.cost,
            )

    def __str__(self) -> str:
        """One line, such as '12 questions asked, 4 answered from the cache, 1 unparseable'."""
        counts = self.counts
        parts = [f"{counts['asked']} questions asked", f"{counts['cached']} answered from the cache"]
        parts += [f"{counts[name]} {told}" for name, told in TOLD.items() if counts[name]]
        if counts["prompt_tokens"] or counts["completion_tokens"]:
            parts.append(f"{counts['prompt_tokens']} tokens read and {counts['completion_tokens']} written")
        parts += [f"cost {self.cost:.4f}"] if self.cost else []
        return ", ".join(parts)


class Critic(ABC):
    """A judge that gives reasons. `opening.open_critic` makes one; `voting.Voted` asks one several times."""

    kind: Literal["critic"] = "critic"
    name: str
    """Unique among the judges of a workspace."""
    version: str
    """Changes whenever the same videos might be judged differently: weights, questions, frames, sampling."""
    compares: tuple[str, ...]
    """Dimensions on which it compares two videos; may be none."""
    rates: tuple[str, ...]
    """Dimensions on which it judges one video by itself; may be none."""
    ordered: bool = True
    """Whether it sees two videos together, so that the order in which they are shown may sway it."""
    concurrency: int = 1
    """Questions that may be asked at the same time, from as many threads."""
    tally: Tally

    @abstractmethod
    def compare(self, a: Clip, b: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Comparison:
        """Which of two videos of a prompt is better on a dimension.

        Args:
            a, b: the videos, in the order in which they are shown; they may differ in length and size.
            prompt: what both were generated from.
            dimension: one of `compares`.
            vote: which of several askings this is. Each draws its own chance where the critic samples its answers,
                and the same one the same again; a critic that does not sample answers all alike.
        Raises:
            ReelignError: it does not compare on this dimension, or its server gives no answer at all.
        """

    @abstractmethod
    def rate(self, video: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Rating:
        """How good one video is on a dimension, one of `rates`; else as `compare`."""


def check_dimension(critic: Critic, how: Literal["compares", "rates"], dimension: str) -> None:
    """Refuse a dimension that a critic was not made for.

    Raises:
        ReelignError: it is one.
    """
    known = critic.compares if how == "compares" else critic.rates
    if dimension not in known:
        does = "compares videos" if how == "compares" else "judges single videos"
        raise ReelignError(
            f"The critic {critic.name!r} does not judge {dimension!r}: it {does} on {', '.join(known) or 'nothing'}.",
            "Ask for one of these, or choose another critic or format.",
        )
