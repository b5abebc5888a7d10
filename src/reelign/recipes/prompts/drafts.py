"""Drafts of prompts: words of a category combined at random, and put into sentences by a template or a writer."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from reelign.critics.parsing import behind_thought
from reelign.critics.writing import Written
from reelign.recipes.prompts.words import Category

LINE = re.compile(r"^[\s*_#>-]*prompt[\s*_]*:[\s*_]*(.*)$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """Words that one prompt shall hold."""

    category: str
    words: tuple[tuple[str, str], ...]
    """(kind, word), in the order of the template."""
    text: str
    """As the template puts them."""


def drawn(category: Category, generator: torch.Generator) -> Draft:
    """One word of each kind, each as likely as the others."""
    chosen = {
        kind: words[int(torch.randint(len(words), (1,), generator=generator))] for kind, words in category.words.items()
    }
    return Draft(category=category.name, words=tuple(chosen.items()), text=category.template.format(**chosen))


def combinations(category: Category) -> int:
    """How many different drafts there are."""
    count = 1
    for words in category.words.values():
        count *= len(set(words))
    return count


def question(draft: Draft, max_words: int) -> str:
    """What a writer is asked."""
    parts = "\n".join(f"- {kind}: {word}" for kind, word in draft.words)
    return (
        "Write one prompt for a model that makes short videos from text. It must show all of this:\n"
        f"{parts}\n\n"
        "Say in one to three plain sentences what is seen and how it moves, in the order in which it happens. Mention "
        "no sound, no writing on the screen and no instructions to the model. Invent small details that fit, and use "
        f"at most {max_words} words.\n\n"
        "Answer with one line that begins with\nPrompt:"
    )


def read_prompt(written: Written) -> str | None:
    """The prompt of an answer: its only line `Prompt: ...` behind the thought; None where that is not clear."""
    start = behind_thought(written.text)
    if start is None or not written.whole:
        return None
    lines = [line[1].strip().strip("\"“”'*_").strip() for line in LINE.finditer(written.text, start)]
    return lines[0] if len(lines) == 1 and lines[0] else None
