"""Words of prompts that a model's tokenizer does not know: T5's of another script, most of them in the small world."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from reelign.generators.base import Generator

SHOWN = 3
"""Words that a warning names."""


def unknown_words(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> dict[str, str]:
    """Each stretch of text that comes out as the unknown token, and the first prompt that has it."""
    if tokenizer.unk_token_id is None or not tokenizer.is_fast or not prompts:
        return {}  # bytes have no unknown words, and a slow tokenizer does not say where a token stood
    # Without special tokens: CLIP's unknown token is its end of text too.
    read = tokenizer(list(prompts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    found: dict[str, str] = {}
    for prompt, ids, places in zip(prompts, read["input_ids"], read["offset_mapping"], strict=True):
        for token, (start, end) in zip(ids, places, strict=True):
            if token == tokenizer.unk_token_id:
                found.setdefault(prompt[start:end].strip(), prompt)
    return found


def warn_of_unknown_words(generator: Generator, prompts: Sequence[str]) -> None:
    """Say which words of the prompts a tokenizer of the model does not know, where there are any."""
    texts = [str(prompt) for prompt in dict.fromkeys(prompts)]
    found: dict[str, str] = {}
    for component in generator.pipeline.components.values():
        if isinstance(component, PreTrainedTokenizerBase):
            found |= unknown_words(component, texts)
    if found:
        words = [repr(word) for word in found]
        told = ", ".join(words[:SHOWN]) + (f" and {len(words) - SHOWN} more" if len(words) > SHOWN else "")
        warnings.warn(
            f"The model does not know {told} of the prompts, such as {next(iter(found.values()))!r}, and reads "
            "every unknown word as the same. Say it in words that it was trained on.",
            stacklevel=3,
        )
