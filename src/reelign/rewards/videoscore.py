"""VideoScore v1 and v1.1: Mantis-8B (Idefics2) with five scores regressed at the last token (arXiv:2406.15252).

Hub keys: model.vision_model.…, model.connector.…, model.text_model.… and score.{weight,bias}, of Mantis'
Idefics2ForSequenceClassification. transformers has Idefics2Model, and the head is a linear layer beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.rewards.base import Reward, RewardCard, Videos, check_input
from reelign.rewards.loading import (
    device_and_dtype,
    fingerprint,
    load_part,
    load_pretrained,
    load_strictly,
    read_part,
    self_test,
    tolerance_of,
    version_of,
)
from reelign.rewards.preprocess import HALF, levels, normalise, resize
from reelign.rewards.qwen_vl_weights import fetch_folder
from reelign.rewards.videoreward_template import fill
from reelign.rewards.videoscore_qwen2_vl import NAMES, QUESTION

IMAGE, AROUND = "<image>", "<fake_token_around_image>"
SHORTEST, LONGEST = 378, 980
"""Sides of a frame in pixels: at least, and the longer one at most (its processor's size)."""
DIMENSIONS = tuple(name.replace(" ", "_").replace("-", "_") for name in NAMES)


def frames_taken(num_frames: int, most: int) -> list[int]:
    """Every frame of a short video; of a longer one `most`, at floor(i · num_frames / most), as on the model's card."""
    return list(range(num_frames)) if num_frames <= most else [index * num_frames // most for index in range(most)]


def frame_size(height: int, width: int) -> tuple[int, int]:
    """Idefics2's size of a frame: the longer side down to 980, then each side up to 378 by itself, aspect or not."""
    aspect = width / height
    if width >= height and width > LONGEST:
        width, height = LONGEST, int(LONGEST / aspect)
    elif height > width and height > LONGEST:
        height, width = LONGEST, int(LONGEST * aspect)
    return max(height, SHORTEST), max(width, SHORTEST)


def question(prompt: str, num_frames: int, tokens_per_frame: int, special_tokens: Sequence[str]) -> str:
    """The text, with the places of the frames behind it as Idefics2's processor writes them.

    Raises:
        ReelignError: the prompt holds a special token.
    """
    place = f"{AROUND}{IMAGE * tokens_per_frame}{AROUND} "
    return fill(QUESTION, prompt, special_tokens) + place * num_frames


def pad_frames(seen: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Put the frames of B videos together.

    Args:
        seen: (K, 3, H, W) of each, normalised.
    Returns:
        (B, K, 3, H, W) with zeros right, below and behind; and (B, K, H, W) bool, what is not padding.
    """
    sizes = [max(frames.shape[axis] for frames in seen) for axis in (0, 2, 3)]
    pixels = seen[0].new_zeros(len(seen), sizes[0], 3, *sizes[1:])
    mask = torch.zeros(len(seen), *sizes, dtype=torch.bool, device=pixels.device)
    for row, frames in enumerate(seen):
        count, _, height, width = frames.shape
        pixels[row, :count, :, :height, :width] = frames
        mask[row, :count, :height, :width] = True
    return pixels, mask


class VideoScore(Reward):
    """Five aspects, nominally 1 to 4 each and not clipped; v1, which looks at 16 frames.

    Args:
        model: hub id or folder; '' is the card's.
        frames: most that are looked at; None is the class's.
        batch_size: videos in one call.
        device: torch's name; 'auto' is cuda where there is one.
        dtype: 'auto' is bfloat16 off the CPU and float32 on it.
        expected_scores: of the self-test's clip by dimension, from an earlier load; None is not compared.
    """

    card = RewardCard(
        what="Five aspects of a video by Mantis-8B (Idefics2), regressed on scores that people gave; 16 frames",
        dimensions=DIMENSIONS,
        differentiable=True,
        frames_needed=1,
        weights="TIGER-Lab/VideoScore",
        licence="MIT (code); see the model's card",
        size="8.3 B parameters, 16.6 GB in bf16",
    )
    name = "videoscore"
    dimensions = card.dimensions
    most_frames = 16

    def __init__(
        self,
        *,
        model: str = "",
        frames: int | None = None,
        batch_size: int = 1,
        device: str = "auto",
        dtype: str = "auto",
        expected_scores: Mapping[str, float] | None = None,
    ) -> None:
        if batch_size < 1 or (frames is not None and frames < 1):
            raise ReelignError(f"frames is {frames} and batch_size {batch_size}.", "Give 1 or more.")
        from transformers import AutoTokenizer, Idefics2Model

        self.device, precision = device_and_dtype(device, dtype, large=True)
        folder = fetch_folder(model or self.card.weights)
        self.model: Any = load_pretrained(
            Idefics2Model, str(folder), device=self.device, dtype=precision, apart="score."
        )
        self.head = nn.Linear(self.model.config.text_config.hidden_size, len(NAMES))
        load_strictly(self.head, read_part(folder, "score."), f"The head of {folder}")
        self.head.to(self.device, precision).requires_grad_(False)
        self.tokenizer: Any = load_part(AutoTokenizer, str(folder))
        for token in (IMAGE, AROUND):
            if token not in self.tokenizer.get_added_vocab():
                raise ReelignError(f"The tokenizer of {folder} has no token {token}.", "Copy the checkpoint whole.")
        self.frames = frames or self.most_frames
        self.batch_size = batch_size
        self.version = version_of(self.name, fingerprint(self.model, self.head), self.frames, QUESTION)
        self.self_test_scores = self_test(self, expected=expected_scores, tolerance=tolerance_of(precision))

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        check_input(self, videos, prompts, fps=fps)
        ranges = [range(start, start + self.batch_size) for start in range(0, len(prompts), self.batch_size)]
        parts = [[index for index in each if index < len(prompts)] for each in ranges]
        scores = [self._scores([videos[i] for i in part], [prompts[i] for i in part]) for part in parts]
        return dict(zip(self.dimensions, torch.cat(scores).float().unbind(dim=1), strict=True))

    def _look(self, video: Tensor) -> Tensor:
        values = levels(video[frames_taken(len(video), self.frames)].to(self.device))
        values = resize(values, *frame_size(*values.shape[-2:]), filter="bilinear", resizer="pillow")
        return normalise(values, HALF, HALF)

    def _scores(self, videos: Sequence[Tensor], prompts: Sequence[str]) -> Tensor:
        """(B, 5)."""
        seen = [self._look(video) for video in videos]
        pixels, mask = pad_frames(seen)
        special = self.tokenizer.get_added_vocab()
        per_frame = self.model.config.perceiver_config.resampler_n_latents
        texts = [question(prompt, len(each), per_frame, special) for prompt, each in zip(prompts, seen, strict=True)]
        rows = [self.tokenizer(text).input_ids for text in texts]
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        # Padded on the right: the decoder is causal, so that no row sees its padding, whatever the token.
        ids = nn.utils.rnn.pad_sequence([torch.tensor(row, device=self.device) for row in rows], batch_first=True)
        states: Tensor = self.model(
            input_ids=ids,
            attention_mask=(torch.arange(ids.shape[1], device=self.device) < lengths[:, None]).long(),
            pixel_values=pixels.to(self.model.dtype),
            pixel_attention_mask=mask,
            use_cache=False,
        ).last_hidden_state
        scores: Tensor = self.head(states[torch.arange(len(rows), device=self.device), lengths - 1])
        return scores


class VideoScoreV11(VideoScore):
    """VideoScore-v1.1, which looks at 48 frames and is better at text alignment."""

    card = RewardCard(
        what="VideoScore with 48 frames, better at text alignment",
        dimensions=DIMENSIONS,
        differentiable=True,
        frames_needed=1,
        weights="TIGER-Lab/VideoScore-v1.1",
        licence="MIT (code); see the model's card",
        size="8.3 B parameters, 16.6 GB in bf16",
    )
    name = "videoscore-v1.1"
    most_frames = 48
