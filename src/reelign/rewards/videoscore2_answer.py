"""What VideoScore2 answers, read as numbers: digits behind three labels, and how sure it was of each digit."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

Soft = Literal["released", "expected", "hard"]

LABELS = {
    "visual_quality": r"visual\s+quality",
    "text_to_video_alignment": r"text[\s-]*to[\s-]*video\s+alignment",
    "physical_consistency": r"physical\s*/\s*common[\s-]*sense\s+consistency",
}
"""Dimension -> its label in the answer, as a pattern."""
DIGIT = r"[\s*_<\[(]*([1-5])(?:\.0+)?(?![\d.]*\d)"
"""A whole number from 1 to 5 behind a colon, marked or bracketed or not; nothing of 10 or 3.5."""
THOUGHT = "</think>"


def read_digits(text: str) -> dict[str, int] | None:
    """Where the digit of each dimension stands in an answer, as an offset into `text`; None if one is missing.

    The answer begins behind the last </think>; a thought that does not end has no answer. The form that is asked for
    is `visual quality: 4`; the released model rather writes `(1) visual quality – clarity, smoothness: 4`, so words
    may stand between a label and its colon, on the same line.
    """
    if "<think>" in text and THOUGHT not in text:
        return None
    start = text.rfind(THOUGHT) + len(THOUGHT) if THOUGHT in text else 0
    places = {}
    for dimension, label in LABELS.items():
        strict = re.compile(rf"{label}\s*:{DIGIT}", re.IGNORECASE)
        loose = re.compile(rf"{label}[^:\n]*:{DIGIT}", re.IGNORECASE)
        match = strict.search(text, start) or loose.search(text, start)
        if match is None:
            return None
        places[dimension] = match.start(1)
    return places


def token_at(offset: int, tokens: Sequence[int], decode: Callable[[Sequence[int]], str]) -> int:
    """The index of the token that writes the character at `offset` of the decoded text."""
    low, high = 0, len(tokens)
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if len(decode(tokens[:middle])) <= offset else (low, middle)
    return low


def soft_score(digit: int, probabilities: Tensor, soft: Soft) -> float:
    """How a digit and the model's sureness of it become one score.

    Args:
        digit: the one that was written, 1 to 5.
        probabilities: (5,) of the digits 1 to 5 at that place; they need not add up to 1.
        soft: `released` is the authors' (vs2_inference.py): the likeliest digit times its share of the five, so that
            an unsure 5 may fall below a sure 3. `expected` is the mean digit under those shares. `hard` is the digit.
    Returns:
        0.2 to 5 for `released`, 1 to 5 for the others; NaN where none of the five has a probability.
    """
    if soft == "hard":
        return float(digit)
    shares = probabilities.double() / probabilities.double().sum()
    if soft == "expected":
        return float((shares * torch.arange(1, 6, dtype=torch.float64, device=shares.device)).sum())
    return float(shares.max() * (int(shares.argmax()) + 1))
