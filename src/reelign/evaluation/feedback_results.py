"""What is measured of a reward, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reelign.evaluation.ranking_bias import Bias
from reelign.evaluation.ranking_correlation import Correlation
from reelign.records.bootstrap import Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureSettings:
    """How agreement is measured."""

    calibration: float = 0.2
    """Share of the prompts on which the calibrated tie threshold is found; the others are measured."""
    as_published: bool = False
    """Count as VideoAlign's own script does (`published_with_ties_by_pair`), to compare with published figures."""
    resamples: int = 2000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.calibration < 1:
            raise ValueError(f"calibration must be in [0, 1), got {self.calibration}")
        if not (self.resamples >= 1 and 0 < self.level < 1):
            raise ValueError(f"resamples must be at least 1 and level in (0, 1), got {self.resamples}, {self.level}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelPair:
    """Accuracy where these two generators meet, at the threshold of the whole dimension."""

    models: tuple[str, str]
    pairs: int
    without_ties: Interval
    with_ties: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibrated:
    """Accuracy with ties at a threshold that was found on other prompts."""

    threshold: float
    found_on: int
    """Pairs of the calibration split."""
    with_ties: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """Pairwise accuracy on one dimension; shares in [0, 1]."""

    answered_by: tuple[str, ...]
    """The reward's dimensions."""
    pairs: int
    """With scores of both videos."""
    ties: int
    """Of them, people see a tie."""
    equal_scores: int
    """Of them, the reward cannot tell apart."""
    failed: int
    """Judged pairs beside these, of which a video has no score."""
    without_ties: Interval
    with_ties: Interval
    """At the threshold that suits these very pairs best, as in the papers."""
    threshold: float
    calibrated: Calibrated | None
    """None where a side of the split has no pairs."""
    models: tuple[ModelPair, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranking:
    """Where the reward puts what people chose as the best of N."""

    answered_by: tuple[str, ...]
    choices: int
    failed: int
    """Choices beside these among candidates of which one has no score."""
    candidates: tuple[int, int]
    """Fewest and most of a group."""
    mrr: Interval
    recall: Mapping[int, Interval]
    chance_mrr: float
    chance_recall: Mapping[int, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Everything that was measured, by people's dimension."""

    accuracy: Mapping[str, Accuracy] = field(default_factory=dict)
    ranking: Mapping[str, Ranking] = field(default_factory=dict)
    correlation: Mapping[str, Correlation] = field(default_factory=dict)
    position: Mapping[str, Bias] = field(default_factory=dict)
    """Towards the first or left video."""
    length: Mapping[str, Bias] = field(default_factory=dict)
    """Towards the longer video, where two differ."""
