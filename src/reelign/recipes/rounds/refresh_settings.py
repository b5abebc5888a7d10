"""Settings of a judge that is trained again: which judgements it learns from, and who makes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reelign.critics.voting import Voting

JUDGE = "judge"
"""As `RoundRefresh.critic`: the critic that judges the rounds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RefreshSettings:
    """Which judgements a judge is trained on again."""

    votes: int = 1
    """Askings of each question, of a critic that samples its answers."""
    min_certainty: float = 0.8
    """Judgements of which the critic is less sure are left out; `reelign critic evaluate` says what is right above it.
    Where a critic does not tell, all consistent ones stay."""
    people: bool = True
    """Whether what people said of videos of the same prompts is learned too, and stands against the critic's word on
    the same videos: the judge then cannot drift with its own mistakes alone."""
    fewest: int = 20
    """A judge is not trained on fewer dependable judgements than this: it would learn them by heart."""

    def __post_init__(self) -> None:
        Voting(votes=self.votes, min_certainty=self.min_certainty)
        if self.fewest < 1:
            raise ValueError(f"fewest must be at least 1, got {self.fewest}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundRefresh(RefreshSettings):
    """How rounds train their judge again between them (Dual-IPO, arXiv:2502.02088v4)."""

    critic: str = ""
    """Who is asked for the judgements: `judge`, the critic that judges the rounds as it then is; or a critic as
    `critics.open_critic` takes it, which stays as it is. '' trains no judge again."""
    options: dict[str, Any] = field(default_factory=dict)
    """What a critic that is named here is opened with, fields of `CriticOptions`."""

    def __post_init__(self) -> None:
        RefreshSettings.__post_init__(self)
        if self.options and self.critic in ("", JUDGE):
            raise ValueError(f"options are of a critic that refresh.critic names, and it is {self.critic!r}")
