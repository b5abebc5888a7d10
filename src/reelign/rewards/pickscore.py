"""PickScore: a CLIP-H fine-tuned on which of two images people picked for their own prompt."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from reelign.rewards.base import RewardCard, Videos
from reelign.rewards.clip_towers import VIT_H, ClipReward


class PickScore(ClipReward):
    """exp(logit scale) · cos(text, frame), about 18 to 24 (Kirstain et al. 2023, arXiv:2305.01569, eq. 1).

    Over the candidates of one prompt, the softmax of the scores is the probability that a person picks each.
    """

    card = RewardCard(
        what="Which of two images a person would pick for a prompt, frame by frame; trained on Pick-a-Pic",
        dimensions=("overall",),
        differentiable=True,
        frames_needed=1,
        weights="yuvalkirstain/PickScore_v1",
        licence="MIT",
        size="986 M parameters, 3.9 GB in fp32",
    )
    name = "pickscore"
    dimensions = card.dimensions
    tokenizer = VIT_H

    def score_frames(self, videos: Videos, prompts: Sequence[str]) -> list[Tensor]:
        scale = self.tower.model.logit_scale.float().exp()
        return [scale * cosines for cosines in self.cosines(videos, prompts)]
