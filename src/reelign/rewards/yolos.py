"""YOLOS: how sure a detector is that something is not in a frame, for rewards that remove objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.base import RewardCard, Videos
from reelign.rewards.images import FrameReward, Reduction
from reelign.rewards.loading import device_and_dtype, fingerprint, load_pretrained, self_test, tolerance_of, version_of
from reelign.rewards.preprocess import IMAGENET_MEAN, IMAGENET_STD, levels, normalise, resize, spaced


def labels_of(config: Any) -> dict[str, int]:
    """Class name -> index, from `id2label`, the half of the two that every config has."""
    return {str(name): int(index) for index, name in config.id2label.items()}


def label_index(labels: Mapping[str, int], name: str, model: str) -> int:
    """The index of a class.

    Raises:
        ReelignError: the model knows no such class; the nearest is named.
    """
    if name not in labels:
        near = get_close_matches(name, labels, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ReelignError(
            f"{model} knows no class {name!r}.", f"{hint}Its config.json lists all {len(labels)} under id2label."
        )
    return labels[name]


def most_confident(logits: Tensor, index: int) -> Tensor:
    """The probability of a class in the detection that gives it the highest, (F,); smooth in every pixel.

    Args:
        logits: (F, detections, classes + 1), the last of nothing.
        index: of the class.
    """
    return logits.softmax(dim=-1)[..., index].amax(dim=-1)


def mean_of_detected(logits: Tensor, index: int, threshold: float) -> Tensor:
    """The mean probability over the detections whose likeliest class is this one, above a threshold, (F,).

    0 where there is none, and without a gradient there (VADER's measure of a frame; its script also restarts the
    video's sum at such frames, which is not followed).

    Args:
        logits, index: as for `most_confident`.
        threshold: least probability of a detection.
    """
    best, which = logits.softmax(dim=-1)[..., :-1].max(dim=-1)
    detected = (which == index) & (best > threshold)
    return (best * detected).sum(dim=-1) / detected.sum(dim=-1).clamp(min=1)


class YolosRemoval(FrameReward):
    """1 - confidence that an object is in the frame, 0 to 1 (VADER, arXiv:2407.08737, removes books so).

    Args:
        target: the class, by its name in COCO, such as 'book'.
        model: hub id or folder of a YolosForObjectDetection; '' is the card's.
        threshold: None takes the most confident detection, whose gradient never vanishes; a number, such as VADER's
            0.2, takes the mean of those above it.
        height: of the frames as the model sees them, in pixels; the width follows (bilinear, not antialiased, VADER).
        frames, reduce, device, dtype, expected_score: as for ClipReward.
        batch_size: frames in one call.
    """

    card = RewardCard(
        what="1 - a detector's confidence that an object of a given COCO class is there, frame by frame",
        dimensions=("removal",),
        differentiable=True,
        frames_needed=1,
        weights="hustvl/yolos-base",
        licence="Apache-2.0",
        size="128 M parameters, 0.5 GB in fp32",
    )
    name = "yolos"
    dimensions = card.dimensions

    def __init__(
        self,
        *,
        target: str,
        model: str = "",
        threshold: float | None = None,
        height: int = 512,
        frames: int | None = None,
        reduce: Reduction = "mean",
        batch_size: int = 8,
        device: str = "auto",
        dtype: str = "auto",
        expected_score: float | None = None,
    ) -> None:
        super().__init__(frames=frames, reduce=reduce, batch_size=batch_size)
        if threshold is not None and not 0 <= threshold < 1:
            raise ReelignError(f"threshold is {threshold}.", "Give a probability from 0 to below 1, or null.")
        from transformers import YolosForObjectDetection

        self.device, precision = device_and_dtype(device, dtype)
        source = model or self.card.weights
        self.model: Any = load_pretrained(YolosForObjectDetection, source, device=self.device, dtype=precision)
        self.index = label_index(labels_of(self.model.config), target, source)
        self.threshold = threshold
        self.height = height
        weights = fingerprint(self.model)
        self.version = version_of(self.name, weights, self.index, threshold, height, frames, reduce)
        self.self_test_scores = self_test(self, expected=expected_score, tolerance=tolerance_of(precision))

    def score_frames(self, videos: Videos, prompts: Sequence[str]) -> list[Tensor]:
        return [
            torch.cat([self._absence(part) for part in self._look(video).split(self.batch_size)]) for video in videos
        ]

    def _look(self, video: Tensor) -> Tensor:
        values = levels(video[spaced(len(video), self.frames)].to(self.device))
        width = max(1, int(self.height * values.shape[-1] / values.shape[-2]))
        values = resize(values, self.height, width, filter="bilinear", resizer="float_aliased")
        return normalise(values, IMAGENET_MEAN, IMAGENET_STD)

    def _absence(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=pixels.to(self.model.dtype)).logits.float()
        if self.threshold is None:
            return 1 - most_confident(logits, self.index)
        return 1 - mean_of_detected(logits, self.index, self.threshold)
