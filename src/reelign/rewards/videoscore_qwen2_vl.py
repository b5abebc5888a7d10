"""VideoScore on Qwen2-VL-7B: five dimensions regressed on people's scores of 1 to 4 (He et al. 2024, arXiv:2406.15252).

The class that its weights were saved from is Mantis' Qwen2VLForSequenceClassification: keys visual.…, model.… and

    score.{weight,bias}         (5, hidden), read at the last token: as released
    score.{0..4}.{weight,bias}  (1, hidden) each, read at the token of its label: config.score_type "special_token"

Positions are sequential, as in VideoReward and for the same reason (see `qwen_vl.Positions`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.rewards.base import Reward, RewardCard, Videos
from reelign.rewards.loading import (
    device_and_dtype,
    fingerprint,
    load_part,
    load_strictly,
    read_weights,
    self_test,
    version_of,
)
from reelign.rewards.qwen_vision import ClipSettings, Patches, look
from reelign.rewards.qwen_vl import ClipBatch, chat_text, collate, family_of, hidden_states, patch_layout, video_text
from reelign.rewards.qwen_vl_scoring import score_in_batches
from reelign.rewards.qwen_vl_weights import canonical, empty_backbone, fetch_folder
from reelign.rewards.videoreward_template import fill

NAMES = (
    "visual quality",
    "temporal consistency",
    "dynamic degree",
    "text-to-video alignment",
    "factual consistency",
)
"""As the question and the labels name them, in the order of the head's outputs."""
CLIPS = ClipSettings(fps=8.0, max_pixels=768 * 28 * 28, total_pixels=24576 * 28 * 28)
"""qwen-vl-utils' limits at 8 frames per second, as on the model's card."""
QUESTION = """
Suppose you are an expert in judging and evaluating the quality of AI-generated videos,
please watch the following frames of a given video and see the text prompt for generating the video,
then give scores from 5 different dimensions:
(1) visual quality: the quality of the video in terms of clearness, resolution, brightness, and color
(2) temporal consistency, both the consistency of objects or humans and the smoothness of motion or movements
(3) dynamic degree, the degree of dynamic changes
(4) text-to-video alignment, the alignment between the text prompt and the video content
(5) factual consistency, the consistency of the video content with the common-sense and factual knowledge

for each dimension, output a float number from 1.0 to 4.0,
the higher the number is, the better the video performs in that sub-score, 
the lowest 1.0 means Bad, the highest 4.0 means Perfect/Real (the video is like a real video)
Here is an output example:
visual quality: 3.2
temporal consistency: 2.7
dynamic degree: 4.0
text-to-video alignment: 2.3
factual consistency: 1.8

For this video, the text prompt is "{text_prompt}",
all the frames of video are as follows:
"""
"""VideoScore's own (regression query, MIT): the weights take no other."""


class VideoScoreModel(nn.Module):
    """Backbone and head.

    Args:
        backbone: Qwen2VLModel.
        label_ids: of the labels' tokens, by dimension; () reads all at the last token.
    """

    backbone: Any

    def __init__(self, backbone: Any, label_ids: Sequence[int]) -> None:
        super().__init__()
        self.backbone = backbone
        self.label_ids = tuple(label_ids)
        table = backbone.get_input_embeddings().weight
        self.score = nn.Linear(table.shape[1], len(NAMES), device=table.device, dtype=table.dtype)

    def forward(self, batch: ClipBatch) -> Tensor:
        """(B, 5) scores, nominally 1 to 4, higher is better."""
        embeddings = self.backbone.get_input_embeddings()(batch.input_ids)
        states = hidden_states(self.backbone, batch, embeddings, positions="sequential")
        rows = torch.arange(len(batch), device=states.device)
        if not self.label_ids:
            last: Tensor = self.score(states[rows, batch.attention_mask.sum(1) - 1])
            return last
        labels = torch.tensor(self.label_ids, device=states.device)
        places = (batch.input_ids[..., None] == labels).int().argmax(1)
        own: Tensor = self.score(states[rows[:, None], places])
        return own.diagonal(dim1=1, dim2=2)


class VideoScoreQwen2VL(Reward):
    """VideoScore-Qwen2-VL (TIGER-Lab), nominally 1 to 4 a dimension, not clipped.

    Args:
        model: hub id or folder of the checkpoint.
        clips: frames and pixels looked at, as ClipSettings or as its fields; what is left out is the card's.
        batch_size: most videos in one forward.
        device, dtype: 'auto' is bfloat16 on a GPU, float32 on the CPU.
        expected_scores: of the self-test's clip by dimension, where known.
        check: False leaves the self-test out, which takes two forwards.
    Raises:
        ReelignError: weights that do not fit or fail the self-test.
    """

    card = RewardCard(
        what="Five aspects of a video by Qwen2-VL-7B, regressed on 37.6 k videos that people scored 1 to 4",
        dimensions=tuple(name.replace(" ", "_").replace("-", "_") for name in NAMES),
        differentiable=True,
        frames_needed=2,
        weights="TIGER-Lab/VideoScore-Qwen2-VL",
        licence="MIT (code); see the model's card",
        size="8.3 B parameters, 16.6 GB in bf16",
    )
    name = "videoscore-qwen2-vl"
    dimensions = card.dimensions

    def __init__(
        self,
        *,
        model: str = card.weights,
        clips: ClipSettings | Mapping[str, Any] | None = None,
        batch_size: int = 4,
        device: str = "auto",
        dtype: str = "auto",
        expected_scores: Mapping[str, float] | None = None,
        check: bool = True,
    ) -> None:
        from transformers import AutoTokenizer

        if batch_size < 1:
            raise ReelignError(f"batch_size is {batch_size}.", "Give 1 or more.")
        place, precision = device_and_dtype(device, dtype, large=True)
        folder = str(fetch_folder(model))
        self.model = load_videoscore(folder, precision).to(place).requires_grad_(False)
        self._tokenizer = load_part(AutoTokenizer, folder)
        self._layout = patch_layout(self.model.backbone.config)
        self._family = family_of(self.model.backbone.config)
        self.clips = clips if isinstance(clips, ClipSettings) else replace(CLIPS, **(clips or {}))
        self.batch_size = batch_size
        self.version = version_of(fingerprint(self.model), self.clips)
        if check:
            self_test(self, expected=expected_scores, tolerance=1e-3 if precision == torch.float32 else 0.1)

    @property
    def frames_needed(self) -> int:
        return max(self.card.frames_needed, self.clips.frames_needed)

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        scores = score_in_batches(
            self,
            videos,
            prompts,
            fps,
            look=lambda video, rate, device: look(video, rate, settings=self.clips, layout=self._layout, device=device),
            batch=self._batch,
            forward=self.model,
            device=self.model.score.weight.device,
            batch_size=self.batch_size,
        )
        return dict(zip(self.dimensions, scores.unbind(1), strict=True))

    def _batch(self, seen: Sequence[Patches], prompts: Sequence[str]) -> ClipBatch:
        ids = [self._tokenizer(self._text(*pair))["input_ids"] for pair in zip(seen, prompts, strict=True)]
        return collate(seen, ids, pad=self._tokenizer.pad_token_id)

    def _text(self, seen: Patches, prompt: str) -> str:
        question = fill(QUESTION, prompt, self._tokenizer.get_added_vocab())
        video = video_text(seen, family=self._family, merge_size=self._layout.merge_size)
        if not self.model.label_ids:
            return chat_text(video + question, family=self._family)
        # Mantis trains this kind with the question first, on an answer that names each label by its token.
        labels = self._tokenizer.convert_ids_to_tokens(list(self.model.label_ids))
        answer = "".join(f"The score for {name} is {label}. " for name, label in zip(NAMES, labels, strict=True))
        return chat_text(question + video, family=self._family, answer=answer)


def load_videoscore(folder: str, dtype: torch.dtype) -> VideoScoreModel:
    """The model in a folder, strictly.

    Raises:
        ReelignError: a key that is missing, has no place or another shape, or a head of another kind.
    """
    from transformers import AutoConfig

    config = load_part(AutoConfig, folder)
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise ReelignError(f"{folder} holds no .safetensors file.", "Copy the checkpoint whole.")
    weights: dict[str, Tensor] = {}
    for file in files:
        weights |= canonical(read_weights(file))
    labels = config.label_special_token_ids if getattr(config, "score_type", "") == "special_token" else ()
    if labels and len(labels) != len(NAMES):
        raise ReelignError(f"{folder} has {len(labels)} labels.", f"VideoScore has {len(NAMES)}: {', '.join(NAMES)}.")
    head = _head(weights, folder, split=bool(labels))
    # An output table that no score reads.
    weights.pop("lm_head.weight", None)
    model = VideoScoreModel(empty_backbone(config, dtype=dtype), labels)
    load_strictly(model.backbone, weights, folder)
    load_strictly(model.score, head, folder)
    return model.eval()


def _head(weights: dict[str, Tensor], folder: str, *, split: bool) -> dict[str, Tensor]:
    """Take the head's weight (5, hidden) and bias (5) out of a checkpoint's weights."""
    head = {}
    for part in ("weight", "bias"):
        names = [f"score.{index}.{part}" for index in range(len(NAMES))] if split else [f"score.{part}"]
        for name in names:
            if name not in weights:
                raise ReelignError(
                    f"{folder} lacks the weight {name}.",
                    "Name a checkpoint of VideoScore-Qwen2-VL; config.score_type tells its two kinds of head apart.",
                )
        head[part] = torch.cat([weights.pop(name) for name in names])
    return head
