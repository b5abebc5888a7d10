"""Answers from any other model of transformers that takes pictures and text, such as LLaVA: frames as pictures.

Its own processor prepares them; some processors need torchvision.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from reelign.critics.frames import Part, squared
from reelign.critics.generating import end_tokens, generated, refuse_special
from reelign.critics.writing import Sampling, Written
from reelign.errors import ReelignError
from reelign.rewards.loading import device_and_dtype, fingerprint, load_part, load_pretrained, version_of


class ImagesWriter:
    """A writer (`writing.Writer`) of this process; asked from several threads it answers one after the other.

    Frames get black around them to a square, since many processors cut out the middle of a picture.

    Args:
        model: for conditional generation, in eval mode.
        processor: its own, with a chat template.
    """

    concurrency = 1

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model, processor
        self.tokenizer: Any = processor.tokenizer
        self.ends = end_tokens(model, self.tokenizer)
        if not self.ends or not getattr(processor, "chat_template", None):
            raise ReelignError(
                f"{type(processor).__name__} brings no chat template or no token that ends an answer.",
                "Use a model that is trained on instructions.",
            )
        self.identity = version_of("images", fingerprint(model), str(processor.image_processor.to_json_string()))
        self._alone = threading.Lock()

    @classmethod
    def load(cls, source: str, *, device: str = "auto", dtype: str = "auto") -> ImagesWriter:
        """From a hub id or folder, every weight in its place.

        Raises:
            ReelignError: no such model, weights that do not fit, or a processor that needs a package that is missing.
        """
        from transformers import AutoModelForImageTextToText, AutoProcessor

        where, precision = device_and_dtype(device, dtype, large=True)
        try:
            processor = load_part(AutoProcessor, source)
        except ImportError as error:
            raise ReelignError(
                f"The processor of {source} needs a package: {str(error).strip().splitlines()[0]}",
                "Install it, or serve the model with vLLM and give critic.server.url.",
            ) from error
        return cls(load_pretrained(AutoModelForImageTextToText, source, device=where, dtype=precision), processor)

    def write(self, parts: Sequence[Part], sampling: Sampling) -> Written:
        """As `Writer.write`."""
        refuse_special([part for part in parts if isinstance(part, str)], self.tokenizer)
        with self._alone:
            inputs = self.inputs(parts)
            return generated(self.model, inputs, sampling, ends=self.ends, decode=self._decode)

    def inputs(self, parts: Sequence[Part]) -> dict[str, Any]:
        """What the model takes for a question."""
        from PIL import Image

        content: list[dict[str, Any]] = []
        for part in parts:
            if isinstance(part, str):
                content.append({"type": "text", "text": part})
            else:
                frames = squared(part.frames).permute(0, 2, 3, 1).numpy()
                content += [{"type": "image", "image": Image.fromarray(frame)} for frame in frames]
        made = self.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        return dict(made.to(self.model.device, dtype=self.model.dtype))

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text
