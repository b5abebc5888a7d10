"""Who writes answers: a model here or behind a server, which takes texts and videos and gives text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

from reelign.critics.frames import Part
from reelign.errors import ReelignError

CHOICES = 20
"""Tokens of which the probability is kept at each place, the likeliest; what servers give at most."""
FAINT = 1e-4
"""Probabilities below this are not kept."""


class Refused(ReelignError):
    """One question that cannot be answered, such as a video that is too long for the model; others may be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How an answer is drawn."""

    temperature: float = 0.0
    """0 takes the likeliest token."""
    seed: int = 0
    max_tokens: int = 1024
    """After which an answer is cut off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A piece of an answer, and the likeliest pieces at its place: text -> probability."""

    text: str
    chances: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """An answer."""

    text: str
    tokens: tuple[Token, ...] = ()
    """Of which the texts in a row are `text`; none where the writer does not tell."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    whole: bool = True
    """False where it was cut off."""
    cached: bool = False
    again: int = 0
    """Requests sent again before it came."""
    cost: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """For a file; `read` takes it."""
        return {
            "text": self.text,
            "tokens": [[token.text, token.chances] for token in self.tokens],
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "whole": self.whole,
        }

    @classmethod
    def read(cls, held: Mapping[str, Any]) -> Written:
        """What `as_dict` gave, from the cache.

        Raises:
            KeyError, TypeError, ValueError: something else.
        """
        return cls(
            text=str(held["text"]),
            tokens=tuple(Token(text=str(text), chances=dict(chances)) for text, chances in held["tokens"]),
            prompt_tokens=int(held["prompt_tokens"]),
            completion_tokens=int(held["completion_tokens"]),
            whole=bool(held["whole"]),
            cached=True,
        )


class Writer(Protocol):
    """A model that answers. `identity` changes whenever it might answer otherwise."""

    @property
    def identity(self) -> str: ...

    @property
    def concurrency(self) -> int:
        """Questions that it takes at the same time."""
        ...

    def write(self, parts: Sequence[Part], sampling: Sampling) -> Written:
        """Answer one question.

        Raises:
            Refused: this question cannot be answered.
            ReelignError: none can.
        """
        ...


def kept(chances: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The probabilities worth keeping; of two tokens of one text the sum."""
    held: dict[str, float] = {}
    for text, chance in chances:
        if chance >= FAINT:
            held[text] = round(held.get(text, 0.0) + chance, 6)
    return held


def within(tokens: Sequence[Token], text: str) -> tuple[Token, ...]:
    """The tokens that write `text`, of which more may stand before and behind it; none where they do not fit."""
    begin = "".join(token.text for token in tokens).rfind(text)
    places = list(accumulate((len(token.text) for token in tokens), initial=0))
    if begin not in places:
        return ()
    first = places.index(begin)
    return tuple(
        token for place, token in zip(places[first:], tokens[first:], strict=False) if place < begin + len(text)
    )


def certainty(written: Written, offset: int, words: Sequence[str]) -> float | None:
    """How sure the writer was of a word: its probability among all the words that could have stood there.

    Args:
        written: the answer.
        offset: where in `written.text` the chosen word begins.
        words: all words, in lower case, the chosen one first.
    Returns:
        0 to 1; None where the writer does not tell, or two of the words begin with the same token.
    """
    place = 0
    for token in written.tokens:
        place += len(token.text)
        if place > offset:
            break
    else:
        return None
    shares = dict.fromkeys(words, 0.0)
    for text, chance in token.chances.items():
        bare = re.sub(r"^\W+|\W+$", "", text).lower()
        fitting = [word for word in words if bare and word.startswith(bare)]
        if len(fitting) > 1:
            return None
        if fitting:
            shares[fitting[0]] += chance
    total = sum(shares.values())
    return shares[words[0]] / total if total else None
