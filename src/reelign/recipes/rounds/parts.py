"""What the rounds are made of: settings of each, the policy after it, and what they take from the floors above."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from reelign.generators.base import Generator
from reelign.recipes.critic.settings import CriticSettings
from reelign.recipes.judging import JudgeSettings
from reelign.recipes.reward.settings import RewardSettings
from reelign.recipes.rounds.settings import HeldOut
from reelign.recipes.sampling import GenerateSettings
from reelign.recipes.settings import AlignSettings
from reelign.records import Group, Judgement, Video
from reelign.training import ALONE, Ranks

PEOPLE = "people"
"""As `judge.judge`: nobody but people is asked."""


class Loads(Protocol):
    """Loads the workspace's model anew; without `encoders` what encodes and decodes stays on disk until needed."""

    def __call__(self, *, encoders: bool = True) -> Generator: ...


@dataclass(frozen=True, kw_only=True)
class Hands:
    """What the rounds take from the floors above them."""

    load: Loads
    judge: Callable[[JudgeSettings, Sequence[Group]], Mapping[str, str]]
    """Asks the round's judges about the candidates of each prompt; returns their names and versions."""
    score: Callable[[HeldOut, Sequence[Video]], Mapping[str, Tensor]]
    """Scores (videos,) of a held-out judge by dimension, NaN where a video could not be scored."""
    compare: Callable[[HeldOut, Sequence[Group]], Sequence[Judgement]]
    """What a held-out judge says of the two videos of each group; nothing is recorded."""
    say: Callable[[str], None] = print
    """Tells the user how far it is."""
    ranks: Ranks = ALONE


@dataclass(frozen=True, kw_only=True)
class RoundPlan:
    """The settings of a round's stages, as resolved."""

    number: int
    """From 1."""
    generate: GenerateSettings
    judge: JudgeSettings
    align: AlignSettings
    refresh: CriticSettings | RewardSettings | None = None
    """How the judge is trained again after the round, before the next; None where it is not."""


@dataclass(frozen=True, kw_only=True)
class RoundPolicy:
    """The policy after a round; after none it is the base."""

    number: int = 0
    folder: Path | None = None
    """Of what was trained; None for the base."""
    key: str = "base"
    """Changes with the weights."""
    name: str = ""
    """Under which its videos are recorded."""


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A round waits for people."""

    round: int
    adapter: str
    """Of the candidates, as `annotate` takes it."""
    open: int
    """Questions with too few people's judgements."""
    questions: int
