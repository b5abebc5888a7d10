"""What is measured of a critic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reelign.evaluation.ranking_correlation import Correlation
from reelign.records.bootstrap import Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Certain:
    """What is left of one asking where only answers of some certainty count."""

    at_least: float
    share: Interval
    """Of the answers, those that are as certain."""
    right: Interval
    """Of these, without ties."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sensitivity:
    """The same questions with their prompt, without it, and with another one; keys 'empty' and 'wrong'."""

    probes: int
    right: Interval
    """Accuracy with the right prompt, of the questions that are asked otherwise too."""
    accuracy: Mapping[str, Interval]
    """Against what people said of the right prompt: of pairs without ties, of videos on three levels."""
    changed: Mapping[str, Interval]
    """Share of questions with another answer."""
    fallen: Mapping[str, Interval]
    """Of videos: how much lower the grade is, good 1 and bad 0; {} of pairs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """What became of the questions about one dimension."""

    answered_by: str
    """The critic's dimension."""
    asked: int
    """Questions with the right prompt, asked once."""
    left_out: Mapping[str, int]
    """Those without a verdict, by reason: they count in no accuracy."""
    unanswered: Interval
    """Share of such questions."""
    repeated: Interval | None
    """Share of equal verdicts among two askings of one question; None where none was asked twice. A critic that does
    not sample its answers gives the same one by construction."""
    prompts: Sensitivity | None
    """None where no other prompt was asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairAnswers:
    """Comparisons on one dimension against people's; shares in [0, 1], intervals over prompts."""

    answers: Answers
    pairs: int
    ties: int
    """Of them, people see a tie."""
    without_ties: Interval
    """Accuracy of one asking, mean of both orders, on the pairs that people decided; a tie said is half right."""
    with_ties: Interval
    """Three-way accuracy of one asking, on all pairs."""
    consistent: Interval
    """Share of pairs, of those answered in both orders, with one verdict whatever the order."""
    swapped: Interval
    """`without_ties` of the consistent pairs alone, as position swap keeps them."""
    swapped_with_ties: Interval
    first: Interval
    """Share of decided answers for the video shown first; both orders are asked, so ½ is no position bias."""
    certain: tuple[Certain, ...]
    """() where the critic does not tell how certain it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoAnswers:
    """Grades on one dimension against people's."""

    answers: Answers
    videos: int
    """With a grade by most people."""
    three_level: Interval
    """Share of videos with people's grade."""
    desirable: Interval
    """Share on the same side of good or normal against bad (IPO's rule for KTO)."""
    confusion: Mapping[str, Mapping[str, int]]
    """People's grade -> the critic's -> videos."""
    correlation: Correlation | None
    """With people's mean ratings; None where nobody rated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CriticMeasured:
    """Everything that was measured, by people's dimension."""

    pairs: Mapping[str, PairAnswers] = field(default_factory=dict)
    videos: Mapping[str, VideoAnswers] = field(default_factory=dict)
