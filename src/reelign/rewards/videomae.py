"""VideoMAE: how likely a classifier of human actions finds the action that the prompt asks for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.base import Reward, RewardCard, Videos, check_input
from reelign.rewards.images import in_batches, look
from reelign.rewards.loading import device_and_dtype, fingerprint, load_pretrained, self_test, tolerance_of, version_of
from reelign.rewards.preprocess import IMAGENET_MEAN, IMAGENET_STD, Fit, Preprocessing
from reelign.rewards.yolos import label_index, labels_of


def action_in(prompt: str, labels: Sequence[str]) -> str | None:
    """The longest label that stands in a prompt as whole words, whatever the case; None if there is none."""
    found = [label for label in labels if re.search(rf"\b{re.escape(label.lower())}\b", prompt.lower())]
    return max(found, key=len, default=None)


class VideoMAEAction(Reward):
    """Probability of an action, 0 to 1, or its logarithm (VADER, arXiv:2407.08737, section 4: action classifiers).

    VADER's script exponentiates logits and sums over the batch; here each video has its own softmax.

    Args:
        action: the class, by its name in Kinetics-400, such as 'archery'; '' takes the one that each prompt names.
        model: hub id or folder of a VideoMAEForVideoClassification; '' is the card's.
        frames: how many are looked at, evenly spread, an even number; None is what the model was trained with (16).
        fit: `crop` to the centre as its processor does; VADER's is `stretch`.
        log: give log-probabilities, whose gradient does not vanish where the action is far from seen.
        batch_size: videos in one call of the model.
        device, dtype: as for ClipReward.
        expected_score: of the self-test's clip, from an earlier load; None is not compared.
    """

    card = RewardCard(
        what="Probability of an action of Kinetics-400 by VideoMAE, over the whole clip",
        dimensions=("action",),
        differentiable=True,
        frames_needed=16,
        weights="MCG-NJU/videomae-base-finetuned-kinetics",
        licence="CC-BY-NC-4.0 (non-commercial)",
        size="87 M parameters, 0.3 GB in fp32",
    )
    name = "videomae"
    dimensions = card.dimensions

    def __init__(
        self,
        *,
        action: str = "",
        model: str = "",
        frames: int | None = None,
        fit: Fit = "crop",
        log: bool = False,
        batch_size: int = 4,
        device: str = "auto",
        dtype: str = "auto",
        expected_score: float | None = None,
    ) -> None:
        from transformers import VideoMAEForVideoClassification

        self.device, precision = device_and_dtype(device, dtype)
        source = model or self.card.weights
        # Positions over time are sines, made for the length that is asked for: they are not in the checkpoint.
        length: dict[str, Any] = {} if frames is None else {"num_frames": frames}
        self.model: Any = load_pretrained(
            VideoMAEForVideoClassification, source, device=self.device, dtype=precision, **length
        )
        config = self.model.config
        if config.num_frames % config.tubelet_size:
            raise ReelignError(f"frames is {config.num_frames}.", f"Give a multiple of {config.tubelet_size}.")
        self.labels = labels_of(config)
        self.action = action
        if action:
            label_index(self.labels, action, source)
        self.frames: int = config.num_frames
        self.log = log
        self.batch_size = batch_size
        self.preprocess = Preprocessing(
            size=config.image_size, fit=fit, filter="bilinear", mean=IMAGENET_MEAN, std=IMAGENET_STD
        )
        self.version = version_of(self.name, fingerprint(self.model), self.preprocess, self.frames, action, log)
        named = next(iter(self.labels))
        self.self_test_scores = self_test(
            self, expected=expected_score, prompts=(named, named), tolerance=tolerance_of(precision)
        )

    @property
    def frames_needed(self) -> int:
        return self.frames

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        check_input(self, videos, prompts, fps=fps)
        indices = torch.tensor([self._index(prompt) for prompt in prompts], device=self.device)
        pixels = look(videos, self.frames, self.preprocess, self.device).to(self.model.dtype)
        clips = pixels.unflatten(0, (len(videos), self.frames))
        logits = in_batches(lambda part: self.model(pixel_values=part).logits, self.batch_size, clips)
        log_probs = logits.float().log_softmax(dim=-1)[torch.arange(len(clips), device=self.device), indices]
        return {"action": log_probs if self.log else log_probs.exp()}

    def _index(self, prompt: str) -> int:
        label = self.action or action_in(prompt, list(self.labels))
        if label is None:
            raise ReelignError(
                f"The prompt {prompt!r} names no action that VideoMAE knows.",
                "Set action to one of Kinetics-400, such as archery, or write it into the prompt.",
            )
        return self.labels[label]
