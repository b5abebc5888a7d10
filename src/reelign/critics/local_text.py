"""Answers in text alone from a language model here, for what needs no eyes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from reelign.critics.frames import Part
from reelign.critics.generating import end_tokens, generated, refuse_special
from reelign.critics.writing import Refused, Sampling, Written
from reelign.errors import ReelignError
from reelign.rewards.loading import device_and_dtype, fingerprint, load_part, load_pretrained, version_of


class TextWriter:
    """A writer (`writing.Writer`) that takes no videos.

    Args:
        model: a causal language model in eval mode.
        tokenizer: its own, with a chat template.
    """

    concurrency = 1

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.ends = end_tokens(model, tokenizer, ("<|im_end|>", "<|eot_id|>"))
        if not self.ends or not getattr(tokenizer, "chat_template", None):
            raise ReelignError(
                f"{type(tokenizer).__name__} brings no chat template or no token that ends an answer.",
                "Use a model that is trained on instructions.",
            )
        self.identity = version_of("text", fingerprint(model), tokenizer.chat_template)
        self._alone = threading.Lock()

    @classmethod
    def load(cls, source: str, *, device: str = "auto", dtype: str = "auto") -> TextWriter:
        """From a hub id or folder, every weight in its place.

        Raises:
            ReelignError: no such model, or weights that do not fit.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        where, precision = device_and_dtype(device, dtype, large=True)
        model = load_pretrained(AutoModelForCausalLM, source, device=where, dtype=precision)
        return cls(model, load_part(AutoTokenizer, source))

    def write(self, parts: Sequence[Part], sampling: Sampling) -> Written:
        """As `Writer.write`."""
        texts = [part for part in parts if isinstance(part, str)]
        if len(texts) < len(parts):
            raise Refused("A language model without eyes was shown a video.", "Ask a vision-language model.")
        refuse_special(texts, self.tokenizer)
        asked = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": "".join(texts)}],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        with self._alone:
            inputs = {name: asked[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
            return generated(self.model, inputs, sampling, ends=self.ends, decode=self._decode)

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text
