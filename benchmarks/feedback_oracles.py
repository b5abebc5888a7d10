"""The small world's true judges as rewards: all that can be known, what single frames tell, and one more person."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.rewards import Reward, RewardCard, Videos, check_input
from reelign.spriteworld import judges
from reelign.spriteworld.prompts import parse

FRAMES = 4
"""That an image-level source looks at, evenly spread; their scores are averaged."""


def _card(what: str, dimensions: tuple[str, ...]) -> RewardCard:
    return RewardCard(what=what, dimensions=dimensions, differentiable=False, frames_needed=4)


class Truth(Reward):
    """The true judges."""

    name = "spriteworld-truth"
    version = judges.VERSION
    dimensions = judges.DIMENSIONS
    card = _card("all that the small world's people go by", judges.DIMENSIONS)

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        check_input(self, videos, prompts, fps=fps)
        return judges.scores(torch.stack(list(videos)), prompts)


class StillTruth(Reward):
    """The true judges of single frames: looks, colour and shape. Each frame is shown as a still video."""

    name = "spriteworld-stills"
    version = f"{judges.VERSION}-{FRAMES}"
    dimensions = ("VQ", "TA")
    card = _card("what a frame of the small world tells", ("VQ", "TA"))

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        check_input(self, videos, prompts, fps=fps)
        stacked = torch.stack(list(videos))
        places = torch.linspace(0, stacked.shape[1] - 1, FRAMES).round().long().tolist()
        each = [self._frame(stacked[:, place], parse(prompts)) for place in places]
        return {name: torch.stack([found[name] for found in each]).mean(dim=0) for name in self.dimensions}

    def _frame(self, frames: Tensor, told: Tensor) -> dict[str, Tensor]:
        """Scores of frames (B, 3, 32, 32)."""
        parts = []
        for start, tracks in judges.tracked(frames[:, None].expand(-1, 4, -1, -1, -1)):
            colour, shape, _ = judges.posteriors(tracks)
            own = told[start : start + len(colour)]
            chances = [colour.gather(1, own[:, :1])[:, 0], shape.gather(1, own[:, 1:2])[:, 0]]
            seen = judges.presence(tracks)
            alignment = (0.05 + 0.95 * torch.stack(chances)).log().mean(dim=0).exp()
            parts.append({"VQ": seen * judges.visual_quality(tracks), "TA": seen * alignment})
        return {name: torch.cat([part[name] for part in parts]) for name in self.dimensions}


class NoisyTruth(Truth):
    """One more person, who feels the truth through Gumbel noise of their own; the same video always the same way.

    On each dimension the noise is as large as that of the people who chose; `overall` has its own, as theirs.
    """

    name = "spriteworld-person"
    dimensions = ("overall", *judges.DIMENSIONS)

    def __init__(self, sharpness: float) -> None:
        self.sharpness = sharpness
        self.version = f"{judges.VERSION}-{sharpness:g}"

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        scores = super().score(videos, prompts, fps=fps)
        scores["overall"] = torch.stack([scores[name] for name in judges.DIMENSIONS]).mean(dim=0)
        for row, video in enumerate(videos):
            # The video's own noise, so that batches do not matter.
            content = hashlib.sha256(video.contiguous().numpy().tobytes()).hexdigest()
            noise = -torch.empty(len(scores)).exponential_(generator=generator_from("one more", content)).log()
            for name, each in zip(self.dimensions, noise, strict=True):
                scores[name][row] += each / self.sharpness
        return {name: scores[name] for name in self.dimensions}
