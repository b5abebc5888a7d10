"""Answers read strictly: a verdict stands there in the words that were asked for, or there is none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

V = TypeVar("V", bound=str)
THOUGHT = re.compile(r"<think>(.*?)</think>", re.DOTALL)
_LINE = re.compile(r"^[\s*_#>-]*verdict[\s*_]*:(.*)$", re.IGNORECASE | re.MULTILINE)
"""A line that claims to be the verdict, with or without marks of Markdown."""
_MARKS = " \t\r*_`\"'.[]()<>"
"""What may stand around the word of a verdict and means nothing."""


def behind_thought(text: str) -> int | None:
    """Where the answer begins: behind the last </think>; None where a thought was begun and never ended."""
    if "</think>" in text:
        return text.rfind("</think>") + len("</think>")
    return None if "<think>" in text else 0


def read_verdict(text: str, words: Mapping[str, V]) -> tuple[V, int] | None:
    """The verdict of an answer, and the offset at which its word stands.

    Every line `Verdict: ...` behind the thought must hold one of the words, and all of them the same one: an answer
    that repeats the choices, hedges, or was cut off before its verdict has none.

    Args:
        text: as written.
        words: lower-case word -> what it means.
    """
    start = behind_thought(text)
    if start is None:
        return None
    found = None
    for line in _LINE.finditer(text, start):
        word = line[1].strip(_MARKS).lower()
        if word not in words or (found is not None and found[0] != words[word]):
            return None
        found = words[word], line.start(1) + line[1].lower().index(word)
    return found


def reason_of(text: str) -> str:
    """The reasons in an answer: what is written beside its verdict, or else its thought."""
    start = behind_thought(text)
    said = _LINE.sub("", text[start or 0 :]).strip()
    thought = THOUGHT.search(text)
    return said or (thought[1].strip() if thought else "")
