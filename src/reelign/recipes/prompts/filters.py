"""Which texts are good prompts and new ones: length, words, overlap with others."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

WORD = re.compile(r"\w+(?:['’-]\w+)*")


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text in lower case, without marks."""
    return tuple(WORD.findall(text.lower()))


def fault(text: str, *, min_words: int, max_words: int, forbidden: Sequence[str]) -> str:
    """Why a text is no good prompt, '' where it is one.

    Args:
        forbidden: words or phrases, whatever their case; 'art' is not found in 'party'.
    """
    words = words_of(text)
    if len(words) < min_words:
        return "too short"
    if len(words) > max_words:
        return "too long"
    line = f" {' '.join(words)} "
    held = [each for each in forbidden if f" {' '.join(words_of(each))} " in line]
    return f"holds {held[0]!r}" if held else ""


class Overlap:
    """Texts by the runs of words that they hold, to find one that says nearly the same.

    Args:
        ngram: words in a run.
        most: two texts that share a larger part of their runs, intersection over union, are the same; a text of fewer
            words than a run is one run.
    """

    def __init__(self, texts: Iterable[str] = (), *, ngram: int, most: float) -> None:
        self.ngram, self.most = ngram, most
        self._sizes: list[int] = []
        self._holders: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        runs = self.runs(text)
        for run in runs:
            self._holders[run].append(len(self._sizes))
        self._sizes.append(len(runs))

    def nearest(self, text: str) -> float:
        """The largest share that a text has in common with one that was added, 0 to 1."""
        runs = self.runs(text)
        shared = Counter(holder for run in runs for holder in self._holders.get(run, ()))
        return max((both / (len(runs) + self._sizes[holder] - both) for holder, both in shared.items()), default=0.0)

    def holds(self, text: str) -> bool:
        """Whether one that was added says nearly the same."""
        return self.nearest(text) > self.most

    def runs(self, text: str) -> set[tuple[str, ...]]:
        words = words_of(text)
        return {words[start : start + self.ngram] for start in range(max(1, len(words) - self.ngram + 1))}


class Embedded:
    """Texts by an embedding's directions, to find one that means nearly the same.

    Args:
        source: hub id or folder of an encoder of transformers, such as sentence-transformers/all-MiniLM-L6-v2; the mean
            of its last layer over the words is a text's direction.
        most: two texts whose directions have a larger cosine are the same.
    """

    def __init__(self, texts: Sequence[str] = (), *, source: str, most: float) -> None:
        from transformers import AutoModel, AutoTokenizer

        from reelign.rewards.loading import device_and_dtype, load_part, load_pretrained

        device, dtype = device_and_dtype("auto", "float32")
        self._tokenizer: Any = load_part(AutoTokenizer, source)
        self._model: Any = load_pretrained(AutoModel, source, device=device, dtype=dtype)
        self.most = most
        self._known: list[Tensor] = [self.direction(text) for text in texts]

    def add(self, text: str) -> None:
        self._known.append(self.direction(text))

    def holds(self, text: str) -> bool:
        """Whether one that was added means nearly the same."""
        return bool(self._known) and float((torch.stack(self._known) @ self.direction(text)).max()) > self.most

    @torch.no_grad()
    def direction(self, text: str) -> Tensor:
        """(hidden,) of length 1; each text by itself, so that its neighbours change nothing."""
        asked = self._tokenizer(text, return_tensors="pt", truncation=True).to(self._model.device)
        hidden: Tensor = self._model(**asked).last_hidden_state[0].float().mean(dim=0)
        return torch.nn.functional.normalize(hidden, dim=0).cpu()
