"""Answers from a Qwen-VL here: Qwen2-VL, Qwen2.5-VL, Qwen3-VL and what is trained from them, videos as videos."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from reelign.critics.frames import Part, Shown
from reelign.critics.generating import end_tokens, generated, refuse_special
from reelign.critics.writing import Sampling, Written
from reelign.rewards.loading import device_and_dtype, fingerprint, load_part, load_pretrained, version_of
from reelign.rewards.preprocess import resize
from reelign.rewards.qwen_vision import Patches, normalise, patchify, smart_resize
from reelign.rewards.qwen_vl import chat_text, family_of, patch_layout, video_text

ENDS = ("<|im_end|>", "<|endoftext|>")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pixels:
    """At what size a local model looks at a frame; its aspect stays and nothing is cut off."""

    min_pixels: int = 128 * 28 * 28
    """A smaller frame is enlarged to as many pixels (height times width)."""
    max_pixels: int = 256 * 28 * 28
    """A larger frame is reduced to as many pixels."""

    def __post_init__(self) -> None:
        if not 0 < self.min_pixels <= self.max_pixels:
            raise ValueError(
                f"min_pixels must be above 0 and at most max_pixels, got {self.min_pixels}, {self.max_pixels}"
            )


class QwenWriter:
    """A writer (`writing.Writer`) of this process; asked from several threads it answers one after the other.

    Args:
        model: of one of the Qwen-VL classes for conditional generation, in eval mode.
        tokenizer: its own.
        pixels: the size of what it sees.
    """

    concurrency = 1

    def __init__(self, model: Any, tokenizer: Any, pixels: Pixels) -> None:
        self.model, self.tokenizer, self.pixels = model, tokenizer, pixels
        self.family, self.layout = family_of(model.config), patch_layout(model.config)
        self.ends = end_tokens(model, tokenizer, ENDS)
        self.identity = version_of("qwen", fingerprint(model), pixels)
        self._alone = threading.Lock()

    @classmethod
    def load(cls, source: str, *, pixels: Pixels, device: str = "auto", dtype: str = "auto") -> QwenWriter:
        """From a hub id or folder, every weight in its place.

        Raises:
            ReelignError: no such model, another kind of model, or weights that do not fit.
        """
        from transformers import AutoModelForImageTextToText, AutoTokenizer

        where, precision = device_and_dtype(device, dtype, large=True)
        model = load_pretrained(AutoModelForImageTextToText, source, device=where, dtype=precision)
        return cls(model, load_part(AutoTokenizer, source), pixels)

    def write(self, parts: Sequence[Part], sampling: Sampling) -> Written:
        """As `Writer.write`."""
        refuse_special([part for part in parts if isinstance(part, str)], self.tokenizer)
        with self._alone:
            inputs = self.inputs(parts)
            return generated(self.model, inputs, sampling, ends=self.ends, decode=self._decode)

    def inputs(self, parts: Sequence[Part]) -> dict[str, torch.Tensor]:
        """What the model takes for a question: `input_ids` (1, L), and the patches of all videos in a row."""
        seen = [part if isinstance(part, str) else self._look(part) for part in parts]
        merge = self.layout.merge_size
        asked = "".join(
            part if isinstance(part, str) else video_text(part, family=self.family, merge_size=merge) for part in seen
        )
        ids = self.tokenizer(chat_text(asked, family=self.family), return_tensors="pt").input_ids
        ids = ids.to(self.model.device)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        videos = [part for part in seen if isinstance(part, Patches)]
        if not videos:
            return inputs
        pixels = torch.cat([normalise(video.pixels, self.layout) for video in videos])
        inputs |= {
            "pixel_values_videos": pixels.to(self.model.dtype),
            "video_grid_thw": torch.tensor([video.grid for video in videos], device=ids.device),
            "mm_token_type_ids": 2 * (ids == self.model.config.video_token_id).int(),
        }
        if self.model.config.model_type == "qwen2_5_vl":  # the only one that spaces time by the clock
            inputs["second_per_grid_ts"] = torch.tensor([each.seconds_per_patch for each in videos], device=ids.device)
        return inputs

    def _look(self, part: Shown) -> Patches:
        frames = part.frames.to(self.model.device)
        size = smart_resize(
            *frames.shape[-2:],
            factor=self.layout.factor,
            min_pixels=self.pixels.min_pixels,
            max_pixels=self.pixels.max_pixels,
        )
        resized = resize(frames.float(), *size, filter="bicubic", resizer="torchvision")
        pixels, grid = patchify(resized, self.layout)
        span = self.layout.temporal_patch_size
        times = part.times + part.times[-1:] * (-len(part.times) % span)
        return Patches(
            pixels=pixels,
            grid=grid,
            times=tuple((times[start] + times[start + span - 1]) / 2 for start in range(0, len(times), span)),
            seconds_per_patch=span / part.fps,
        )

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text
