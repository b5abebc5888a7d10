"""Settings of `reelign prompts`: how many, of which words, by which writer, and what is dropped."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from reelign.critics.server import ServerSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class WriterSettings:
    """Who puts the words into sentences; with neither model nor server the template does."""

    model: str = ""
    """A language model of transformers, hub id or folder, loaded here."""
    server: ServerSettings = field(default_factory=ServerSettings)
    """Or one behind an OpenAI-compatible server, by its `url`."""
    temperature: float = 0.9
    max_tokens: int = 512
    """After which an answer is cut off, and dropped."""
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf or self.max_tokens < 1:
            raise ValueError(
                f"temperature must be at least 0 and max_tokens 1, got {self.temperature}, {self.max_tokens}"
            )
        if self.model and self.server.url:
            raise ValueError(f"model and server.url cannot both write, got {self.model} and {self.server.url}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptSettings:
    """What is made."""

    count: int = 100
    """New prompts, spread evenly over the categories."""
    split: str = "train"
    """Of the workspace; a prompt that stands in another split is dropped."""
    words: str = ""
    """A name, a YAML file or `package.module:object` of categories and attributes; '' is what suits the model."""
    categories: tuple[str, ...] = ()
    """Those to make prompts of; none is all."""
    seed: int = 0
    """Of the words drawn."""
    writer: WriterSettings = field(default_factory=WriterSettings)
    min_words: int = 3
    max_words: int = 80
    forbidden: tuple[str, ...] = ()
    """Words or phrases that no prompt may hold."""
    ngram: int = 3
    """Words in a run, by which overlap is measured."""
    overlap: float = 0.6
    """A prompt that shares a larger part of its runs with another is dropped; 1 drops none."""
    embedding: str = ""
    """An encoder of transformers, hub id or folder, by which meaning is compared; '' compares runs of words alone."""
    similarity: float = 0.95
    """A prompt whose direction has a larger cosine with another's is dropped."""
    tries: int = 20
    """Drafts per prompt wanted, after which a category stays short."""

    def __post_init__(self) -> None:
        for name in ("count", "min_words", "ngram", "tries"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_words < self.min_words:
            raise ValueError(f"max_words must be at least min_words, got {self.max_words} and {self.min_words}")
        for name in ("overlap", "similarity"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, got {getattr(self, name)}")
