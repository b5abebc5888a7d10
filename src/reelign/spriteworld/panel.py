"""Judges of single videos of the small world that are no oracles: a panel's noisy scores, and a critic's three grades.

What they get wrong follows from the video and who they are, so that the same video is always judged alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from reelign.critics.base import Comparison, Critic, Grade, Rating, Tally, check_dimension
from reelign.spriteworld import judges
from reelign.video import Clip

NOISE = 0.1
"""Standard deviation of a panel's error on a score, whose scale is 0 to 1."""
LOW, HIGH = 0.82, 0.92
"""Of the mean score: below LOW a video is bad, from HIGH on good."""


def scores(videos: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
    """The true scores with an error of their own on each: {"VQ", "MQ", "TA"} of (B,), higher is better."""
    return _seen(videos, prompts, "panel", NOISE)


class Grader(Critic):
    """A critic that calls a video good, normal or bad by its mean score, seen through an error."""

    def __init__(self, *, name: str = "spriteworld-grader", noise: float = NOISE) -> None:
        self.name = name
        self.noise = noise
        self.version = f"{judges.VERSION}-{noise:g}-{LOW:g}-{HIGH:g}"
        self.compares: tuple[str, ...] = ()
        self.rates = ("overall",)
        self.tally = Tally()

    def compare(self, a: Clip, b: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Comparison:
        check_dimension(self, "compares", dimension)
        raise AssertionError("it compares on no dimension")

    def rate(self, video: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Rating:
        seen = _seen(video.frames[None], [prompt], self.name, self.noise)
        score = float(torch.stack(list(seen.values())).mean())
        grade: Grade = "bad" if score < LOW else "good" if score >= HIGH else "normal"
        return Rating(grade=grade, score=score, reason=f"the mean score is {score:.2f}")


def _seen(videos: Tensor, prompts: Sequence[str], who: str, noise: float) -> dict[str, Tensor]:
    true = judges.scores(videos, prompts)
    return {
        name: values + noise * torch.stack([_error(who, name, video) for video in videos]).to(values.device)
        for name, values in true.items()
    }


def _error(who: str, name: str, video: Tensor) -> Tensor:
    """A standard normal number that belongs to a judge, a dimension and a video."""
    content = video.detach().cpu().contiguous().view(torch.uint8).numpy().data
    digest = hashlib.sha256(f"{who}\x1f{name}\x1f".encode() + bytes(content)).digest()
    return torch.randn((), generator=torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1))
