"""CLIPScore: how well frames and prompt agree, by a CLIP that was trained on neither videos nor preferences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.base import RewardCard, Videos
from reelign.rewards.clip_towers import ClipReward
from reelign.rewards.images import Reduction
from reelign.rewards.preprocess import Fit

WEIGHT = 2.5
PREFIX = "A photo depicts "
"""Put before each caption in the original's experiments (Hessel et al. 2021, section 3)."""


class CLIPScore(ClipReward):
    """2.5 · max(cos(text, frame), 0), 0 to 2.5 (Hessel et al. 2021, arXiv:2104.08718, eq. in section 3).

    Args:
        scale: `clipscore` is the above; `cosine` is the bare cosine, whose gradient does not vanish below 0;
            `percent` is 100 · max(cosine, 0), as torchmetrics gives it.
        prefix: put before the prompt; None is the original's "A photo depicts " for `clipscore`, and nothing else.
        The rest is as for ClipReward; the rewards that stand on `openai/clip-vit-large-patch14` share it if named so.
    """

    card = RewardCard(
        what="Agreement of frames and prompt by OpenAI's CLIP ViT-B/32, frame by frame; no preferences in it",
        dimensions=("TA",),
        differentiable=True,
        frames_needed=1,
        weights="openai/clip-vit-base-patch32",
        licence="MIT",
        size="151 M parameters, 0.6 GB in fp32",
    )
    name = "clipscore"
    dimensions = card.dimensions

    def __init__(
        self,
        *,
        model: str = "",
        tokenizer: str = "",
        scale: Literal["clipscore", "cosine", "percent"] = "clipscore",
        prefix: str | None = None,
        fit: Fit | Literal[""] = "",
        frames: int | None = None,
        reduce: Reduction = "mean",
        batch_size: int = 32,
        device: str = "auto",
        dtype: str = "auto",
        expected_score: float | None = None,
    ) -> None:
        if scale not in ("clipscore", "cosine", "percent"):
            raise ReelignError(f"scale is {scale!r}.", "Give clipscore, cosine or percent.")
        self.scale = scale
        self.prefix = (PREFIX if scale == "clipscore" else "") if prefix is None else prefix
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
        super().finish(expected_score, self.scale, self.prefix)

    def score_frames(self, videos: Videos, prompts: Sequence[str]) -> list[Tensor]:
        cosines = self.cosines(videos, [self.prefix + prompt for prompt in prompts])
        if self.scale == "cosine":
            return cosines
        weight = WEIGHT if self.scale == "clipscore" else 100.0
        return [weight * each.clamp(min=0) for each in cosines]
