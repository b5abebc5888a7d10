"""What a kind of critic is asked and how its answers are read: one class per format, named in `FORMATS`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from reelign.critics.base import Comparison, Grade, Rating
from reelign.critics.frames import Part, Shown, Spread
from reelign.critics.parsing import read_verdict, reason_of
from reelign.critics.questions import Dimension, dimensions, pairwise, pointwise
from reelign.critics.writing import Written, certainty
from reelign.records import Verdict
from reelign.video import Clip

UNPARSEABLE = "unparseable"
SIDES: dict[str, Verdict] = {"a": "a", "b": "b", "tie": "tie"}
GRADES: dict[str, Grade] = {"good": "good", "normal": "normal", "bad": "bad"}


class Format(ABC):
    """Questions and the reading of answers; knows nothing of who answers."""

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    """Changes with the reading of answers; the questions speak for themselves."""
    compares: tuple[str, ...] = ()
    rates: tuple[str, ...] = ()
    by_rating: bool = False
    """Two videos are compared by rating each by itself."""
    frames: int = 16
    """Frames shown of a video that is judged by itself."""
    pair_frames: int = 16
    """Frames shown of each of two videos."""
    spread: Spread = "ends"
    max_pixels: int = 256 * 28 * 28
    """A larger frame is reduced to as many pixels, by writers that can."""

    def count(self, clip: Clip, *, pair: bool) -> int:
        """How many frames of a video are shown."""
        return self.pair_frames if pair else self.frames

    @abstractmethod
    def pair_question(self, a: Shown, b: Shown, prompt: str, dimension: str) -> list[Part]:
        """What is asked about two videos; `dimension` is one of `compares`."""

    @abstractmethod
    def read_pair(self, written: Written, dimension: str) -> Comparison:
        """What was answered; the verdict is None where that is not clear."""

    @abstractmethod
    def question(self, video: Shown, prompt: str, dimension: str) -> list[Part]:
        """What is asked about one video; `dimension` is one of `rates`."""

    @abstractmethod
    def read(self, written: Written, dimension: str) -> Rating:
        """What was answered; neither grade nor score where that is not clear."""


class Plain(Format):
    """reelign's own questions, for any model that follows instructions: reasons, then a line with the verdict.

    Args:
        own: dimensions beside the default ones, name -> meaning.
    """

    name = "plain"

    def __init__(self, own: Mapping[str, str] | None = None) -> None:
        self._dimensions: dict[str, Dimension] = dimensions(own)
        self.compares = self.rates = tuple(self._dimensions)

    def pair_question(self, a: Shown, b: Shown, prompt: str, dimension: str) -> list[Part]:
        asked = pairwise(self._dimensions[dimension], prompt)
        return ["Video A:\n", a, "\nVideo B:\n", b, f"\n{asked}"]

    def read_pair(self, written: Written, dimension: str) -> Comparison:
        found = read_verdict(written.text, SIDES)
        if found is None:
            return unread_pair(written)
        return Comparison(
            verdict=found[0],
            reason=reason_of(written.text),
            certainty=certainty(written, found[1], _first(found[0], SIDES)),
            answers=(written.text,),
        )

    def question(self, video: Shown, prompt: str, dimension: str) -> list[Part]:
        return [video, f"\n{pointwise(self._dimensions[dimension], prompt)}"]

    def read(self, written: Written, dimension: str) -> Rating:
        found = read_verdict(written.text, GRADES)
        if found is None:
            return unread(written)
        return Rating(
            grade=found[0],
            reason=reason_of(written.text),
            certainty=certainty(written, found[1], _first(found[0], GRADES)),
            answers=(written.text,),
        )


def unread_pair(written: Written) -> Comparison:
    """An answer about two videos that holds no verdict."""
    return Comparison(verdict=None, left_out=UNPARSEABLE, answers=(written.text,))


def unread(written: Written) -> Rating:
    """An answer about one video that holds no verdict."""
    return Rating(grade=None, left_out=UNPARSEABLE, answers=(written.text,))


def graded(score: float, low: float, high: float) -> Grade:
    """A score in words: bad below `low`, good above `high`, normal between them."""
    return "bad" if score < low else "good" if score > high else "normal"


def _first(word: str, words: Mapping[str, str]) -> list[str]:
    return [word, *(other for other in words if other != word)]
