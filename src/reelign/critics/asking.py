"""A critic put together: a format that asks and reads, and a writer that answers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from weakref import WeakValueDictionary

from reelign.critics.base import Comparison, Critic, Rating, Tally, check_dimension
from reelign.critics.formats import UNPARSEABLE, Format
from reelign.critics.frames import Part, Shown, shown
from reelign.critics.keeping import Kept
from reelign.critics.writing import Refused, Sampling, Writer, Written
from reelign.diffusion.seeds import seed_from
from reelign.records import Verdict
from reelign.records.schema import content_key
from reelign.video import Clip

REFUSED = "refused"


class AskingCritic(Critic):
    """Asks one question at a time and reads its answer; nothing is asked twice to get another answer.

    A clip's frames are taken and sent in the same shape for all questions about it, as long as the caller holds it.

    Args:
        name: of the judge.
        format: what is asked.
        writer: who answers.
        sampling: how answers are drawn; `seed` is of vote 0, other votes have seeds of their own.
        frames: shown of each video; None is what the format wants.
    """

    def __init__(
        self, name: str, format: Format, writer: Writer, *, sampling: Sampling, frames: int | None = None
    ) -> None:
        self.name = name
        self.format, self.writer, self.sampling, self.frames = format, writer, sampling, frames
        self.compares, self.rates = format.compares, format.rates
        self.ordered = not format.by_rating
        self.concurrency = writer.concurrency
        self.tally = Tally()
        self._seen: Kept[Clip, Shown] = Kept()
        self._known: WeakValueDictionary[str, Shown] = WeakValueDictionary()
        self._lock = threading.Lock()
        samples = (sampling.temperature, sampling.max_tokens, *([sampling.seed] if sampling.temperature else []))
        self.version = content_key(format.name, format.version, _questions(format), writer.identity, samples, frames)[
            :12
        ]

    def compare(self, a: Clip, b: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Comparison:
        check_dimension(self, "compares", dimension)
        if self.format.by_rating:
            return by_rating(self.rate(a, prompt, dimension, vote=vote), self.rate(b, prompt, dimension, vote=vote))
        first, second = (self._shown(clip, pair=True) for clip in (a, b))
        written = self._ask(self.format.pair_question(first, second, prompt, dimension), vote)
        if isinstance(written, Refused):
            self.tally.add(refused=1)
            return Comparison(verdict=None, left_out=f"{REFUSED}: {written.what}")
        found = self.format.read_pair(written, dimension)
        self._count(found.left_out)
        return found

    def rate(self, video: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Rating:
        check_dimension(self, "rates", dimension)
        written = self._ask(self.format.question(self._shown(video, pair=False), prompt, dimension), vote)
        if isinstance(written, Refused):
            self.tally.add(refused=1)
            return Rating(grade=None, left_out=f"{REFUSED}: {written.what}")
        found = self.format.read(written, dimension)
        self._count(found.left_out)
        return found

    def _shown(self, clip: Clip, *, pair: bool) -> Shown:
        """The frames of a clip, taken once while the clip is there; of two that show the same, the first one's."""
        count = self.frames or self.format.count(clip, pair=pair)
        return self._seen.of(clip, count, lambda: self._alike(shown(clip, count, self.format.spread)))

    def _alike(self, found: Shown) -> Shown:
        content = found.content
        with self._lock:
            return self._known.setdefault(content, found)

    def _ask(self, parts: Sequence[Part], vote: int) -> Written | Refused:
        drawn = replace(self.sampling, seed=seed_from(self.sampling.seed, vote) if vote else self.sampling.seed)
        try:
            written = self.writer.write(parts, drawn)
        except Refused as refusal:
            self.tally.add(asked=1)
            return refusal
        self.tally.add_written(written)
        return written

    def _count(self, left_out: str) -> None:
        if left_out == UNPARSEABLE:
            self.tally.add(unparseable=1)


def by_rating(a: Rating, b: Rating) -> Comparison:
    """Two videos compared by the scores that each got by itself; there is no verdict without both."""
    answers = (*a.answers, *b.answers)
    if a.score is None or b.score is None:
        return Comparison(verdict=None, left_out=a.left_out or b.left_out or UNPARSEABLE, answers=answers)
    verdict: Verdict = "tie" if a.score == b.score else "a" if a.score > b.score else "b"
    sure = None if a.certainty is None or b.certainty is None else min(a.certainty, b.certainty)
    return Comparison(
        verdict=verdict,
        margin=a.score - b.score,
        reason=f"A: {a.reason}\nB: {b.reason}",
        certainty=sure,
        answers=answers,
    )


def _questions(format: Format) -> list[str]:
    """Every question that a format asks, in words, so that a critic's version changes with them."""
    import torch

    still = Shown(frames=torch.zeros(1, 3, 1, 1, dtype=torch.uint8), times=(0.0,), seconds=1.0)
    asked: list[str] = []
    for dimension in format.compares if not format.by_rating else ():
        asked += [part for part in format.pair_question(still, still, "", dimension) if isinstance(part, str)]
    for dimension in format.rates:
        asked += [part for part in format.question(still, "", dimension) if isinstance(part, str)]
    return [*asked, f"{format.spread} {format.frames} {format.pair_frames} {format.max_pixels}"]
