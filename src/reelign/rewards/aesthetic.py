"""LAION's aesthetic predictor V2: five linear layers on CLIP ViT-L/14's embedding of a frame."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from reelign.rewards.base import RewardCard, Videos
from reelign.rewards.clip_towers import ClipReward
from reelign.rewards.images import Reduction
from reelign.rewards.loading import fetch_file, fingerprint, load_strictly, read_weights
from reelign.rewards.preprocess import Fit

HEAD = "trl-lib/ddpo-aesthetic-predictor"
HEAD_FILES = ("aesthetic-model.pth", "sac+logos+ava1-l14-linearMSE.pth", "model.safetensors")
WIDTHS = (1024, 128, 64, 16, 1)


class LinearHead(nn.Module):
    """Five linear layers in a row with nothing between them: the dropout of the training is the identity here.

    LAION's and ImageReward's heads share this shape, and the keys `layers.{0,2,4,6,7}`: 1, 3 and 5 were dropout.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        widths = (width, *WIDTHS)
        linears = [nn.Linear(before, after) for before, after in pairwise(widths)]
        first, second, third, fourth, fifth = linears
        self.layers = nn.Sequential(first, nn.Identity(), second, nn.Identity(), third, nn.Identity(), fourth, fifth)

    def forward(self, embeddings: Tensor) -> Tensor:
        """(N, width) to (N,)."""
        scores: Tensor = self.layers(embeddings)
        return scores.squeeze(-1)

    def folded(self) -> tuple[Tensor, Tensor]:
        """The same map as one: weight (width,) and bias (), multiplied out in double precision."""
        precise = copy.deepcopy(self).double().cpu()
        with torch.no_grad():
            bias = precise(torch.zeros(1, self.width, dtype=torch.float64))
            weight = precise(torch.eye(self.width, dtype=torch.float64)) - bias
        return weight.float(), bias[0].float()


class LaionAesthetic(ClipReward):
    """Predicted rating of a frame's beauty, about 1 to 10 and mostly 4 to 7; the prompt is not looked at.

    github.com/christophschuhmann/improved-aesthetic-predictor, `sac+logos+ava1-l14-linearMSE`: the projected
    embedding is L2-normalised and goes through `LinearHead`. V1, which VBench uses, is another head and other numbers.

    Args:
        head: hub id, folder or file of the head, with the keys `layers.{0,2,4,6,7}.{weight,bias}`.
        fold: multiply the five layers out to one vector: less work, equal up to rounding.
        The rest is as for ClipReward; VADER scores with fit `stretch`.
    """

    card = RewardCard(
        what="Rating of beauty from 1 to 10, frame by frame; trained on SAC, LAION-Logos and AVA ratings",
        dimensions=("VQ",),
        differentiable=True,
        frames_needed=1,
        weights="openai/clip-vit-large-patch14",
        licence="Apache-2.0 (head), MIT (CLIP)",
        size="428 M parameters, 1.7 GB in fp32",
    )
    name = "aesthetic"
    dimensions = card.dimensions

    def __init__(
        self,
        *,
        model: str = "",
        tokenizer: str = "",
        head: str = HEAD,
        fold: bool = True,
        fit: Fit | Literal[""] = "",
        frames: int | None = None,
        reduce: Reduction = "mean",
        batch_size: int = 32,
        device: str = "auto",
        dtype: str = "auto",
        expected_score: float | None = None,
    ) -> None:
        self.head_source = head
        self.fold = fold
        super().__init__(
            model=model,
            tokenizer=tokenizer,
            fit=fit,
            frames=frames,
            reduce=reduce,
            batch_size=batch_size,
            device=device,
            dtype=dtype,
            expected_score=expected_score,
        )

    def finish(self, expected_score: float | None, *parts: object) -> None:
        self.head = LinearHead(self.tower.model.config.projection_dim)
        load_strictly(self.head, read_weights(fetch_file(self.head_source, HEAD_FILES)), self.head_source)
        self.head.requires_grad_(False).to(self.tower.device)
        self.weight, self.bias = (part.to(self.tower.device) for part in self.head.folded())
        super().finish(expected_score, fingerprint(self.head), self.fold)

    def score_frames(self, videos: Videos, prompts: Sequence[str]) -> list[Tensor]:
        if self.fold:
            return [embeddings @ self.weight + self.bias for embeddings in self.embed(videos)]
        return [self.head(embeddings) for embeddings in self.embed(videos)]
