"""Simulated people: they see what the true judges see, through a noise of their own, and do not always decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reelign.spriteworld import judges

Verdict = Literal["a", "b", "tie"]
NAMES = ("Ada", "Ben", "Chen", "Dana", "Emil", "Fatou", "Goro", "Hana", "Ines")


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """A judge who follows the Bradley–Terry model with ties.

    With d the true score of a less that of b, the person feels `sharpness * d` plus logistic noise, and says "tie" when
    that is within `tie_band` of zero. So without a band P(a) = sigmoid(sharpness * d).
    """

    name: str
    sharpness: float = 12.0
    """Log-odds of preferring a perfect video to a worthless one; infinity would be the true judge."""
    tie_band: float = 1.0
    """Feelings smaller than this are no preference; two equal videos are a tie in tanh(tie_band / 2) of cases."""
    dimensions: tuple[str, ...] = judges.DIMENSIONS

    def __post_init__(self) -> None:
        if not (self.sharpness > 0 and self.tie_band >= 0):
            raise ValueError(
                f"sharpness must be positive and tie_band at least 0, got {self.sharpness} and {self.tie_band}"
            )

    @property
    def kind(self) -> str:
        """As the record names what this stands for."""
        return "person"

    @property
    def version(self) -> str:
        """Of the true judges and of this person's character."""
        return f"{judges.VERSION}-{self.sharpness:g}-{self.tie_band:g}"

    def compare(
        self, videos_a: Tensor, videos_b: Tensor, prompts: Sequence[str], *, generator: torch.Generator
    ) -> list[dict[str, Verdict]]:
        """Judge B pairs of videos (B, F, 3, 32, 32) in [0, 1]; one {dimension: "a" | "b" | "tie"} for each.

        `generator` is the only source of chance.
        """
        a, b = judges.scores(videos_a, prompts), judges.scores(videos_b, prompts)
        difference = torch.stack([a[name] - b[name] for name in self.dimensions], dim=1)
        verdicts = self.decide(difference.cpu(), generator)
        return [dict(zip(self.dimensions, row, strict=True)) for row in verdicts]

    def decide(self, difference: Tensor, generator: torch.Generator) -> list[list[Verdict]]:
        """Verdicts on true score differences (B, D), a less b."""
        uniform = torch.rand(difference.shape, generator=generator, device=generator.device).to(difference.device)
        feeling = self.sharpness * difference + uniform.clamp(1e-6, 1 - 1e-6).logit()
        return [[self._say(one) for one in row] for row in feeling.tolist()]

    def _say(self, feeling: float) -> Verdict:
        if abs(feeling) <= self.tie_band:
            return "tie"
        return "a" if feeling > 0 else "b"


def people(count: int = 3) -> list[Person]:
    """A panel of people with names of their own, alike in character."""
    if not 1 <= count <= len(NAMES):
        raise ValueError(f"count must be 1 to {len(NAMES)}, got {count}")
    return [Person(name=name) for name in NAMES[:count]]
