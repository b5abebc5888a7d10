"""Answers as a critic is to write them, and their tokens: reasons first, then the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reelign.critics.parsing import reason_of

WORDS = {"a": "A", "b": "B"}
"""Verdicts of which the word is another."""
CHAT_END = "<|im_end|>"


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerTokens:
    """T tokens that follow a question, the one that ends the answer among them."""

    ids: Tensor
    """(T,) int64."""
    weights: Tensor
    """(T,) float32."""
    verdict: Tensor
    """(T,) bool: which write the word of the verdict."""


def answer_text(verdict: str, reason: str) -> tuple[str, int]:
    """What a right answer says, as `reelign.critics.questions` asks for it, and the offset of the verdict's word.

    Args:
        verdict: 'a', 'b', 'tie', 'good', 'normal' or 'bad'.
        reason: '' where nobody gave one; lines that claim to be a verdict are taken out of it.
    """
    words = reason_of(reason)
    before = f"{words}\nVerdict: " if words else "Verdict: "
    return before + WORDS.get(verdict, verdict), len(before)


def answer_tokens(writer: Any, verdict: str, reason: str, *, verdict_weight: float) -> AnswerTokens:
    """The tokens of a right answer. The verdict's own count `verdict_weight`, all others 1.

    Args:
        writer: a local writer (`critics.local_qwen`, `critics.local_images`), for its tokenizer and what ends answers.
    """
    text, place = answer_text(verdict, reason)
    spelled = writer.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = torch.tensor([*spelled.input_ids, end_token(writer)])
    of_verdict = torch.tensor([*(stop > place for _, stop in spelled.offset_mapping), False])
    return AnswerTokens(ids=ids, weights=torch.where(of_verdict, verdict_weight, 1.0), verdict=of_verdict)


def end_token(writer: Any) -> int:
    """The token that ends an answer in the model's own chats."""
    added: dict[str, int] = writer.tokenizer.get_added_vocab()
    for token in (added.get(CHAT_END), writer.tokenizer.eos_token_id, *writer.ends):
        if token in writer.ends:
            return int(token)
    raise AssertionError("a writer has a token that ends answers")


def with_answer(inputs: dict[str, Tensor], answer: Tensor) -> dict[str, Tensor]:
    """A question's inputs with the answer's tokens behind it.

    Args:
        inputs: `input_ids` (1, L) and whatever else the model takes; of other tensors (1, L) the mask goes on with 1
            and all else with 0, which is how text is marked.
        answer: (T,) tokens.
    """
    length = inputs["input_ids"].shape[1]
    new = answer[None].to(inputs["input_ids"].device)
    going_on = {"input_ids": new, "attention_mask": torch.ones_like(new)}
    return {
        name: torch.cat([value, going_on.get(name, torch.zeros_like(new)).to(value.dtype)], dim=1)
        if value.shape == (1, length)
        else value
        for name, value in inputs.items()
    }
