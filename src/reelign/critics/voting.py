"""A critic asked several times and in both orders, whose answers count only where they agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Generic, TypeVar

from reelign.critics.base import Comparison, Critic, Grade, Rating
from reelign.errors import ReelignError
from reelign.records import Verdict
from reelign.records.schema import content_key
from reelign.video import Clip

INCONSISTENT, UNDECIDED, UNCERTAIN = "inconsistent", "undecided", "uncertain"
OTHER_SIDE: dict[Verdict, Verdict] = {"a": "b", "b": "a", "tie": "tie"}
C = TypeVar("C", bound=str)
T = TypeVar("T", Comparison, Rating)


@dataclass(frozen=True, kw_only=True, slots=True)
class Voting:
    """How often a critic is asked, and which answers count."""

    votes: int = 1
    """Askings, each with chance of its own; the verdict is what most say."""
    swap: bool = True
    """Each vote is asked twice, the other way round the second time; a verdict that goes with the place is dropped."""
    tie: float = 0.0
    """Margins up to this are a tie, of critics that give numbers; in units of their format."""
    min_certainty: float = 0.0
    """Verdicts that the critic is less sure of are left out; where it does not tell, they stay."""

    def __post_init__(self) -> None:
        if self.votes < 1:
            raise ValueError(f"votes must be at least 1, got {self.votes}")
        if not self.tie >= 0:
            raise ValueError(f"tie must be at least 0, got {self.tie}")
        if not 0 <= self.min_certainty <= 1:
            raise ValueError(f"min_certainty must be from 0 to 1, got {self.min_certainty}")


class Voted(Critic):
    """A critic behind a vote; its own tally counts what was left out and why."""

    def __init__(self, critic: Critic, voting: Voting) -> None:
        """Args: as named.

        Raises:
            ReelignError: several votes of a critic that answers the same each time.
        """
        temperature = getattr(getattr(critic, "sampling", None), "temperature", None)
        if voting.votes > 1 and temperature == 0:
            raise ReelignError(
                f"{voting.votes} votes of the critic {critic.name!r} would all be the same at temperature 0.",
                "Set temperature=0.7, or votes=1.",
            )
        self.critic, self.voting = critic, voting
        self.name, self.compares, self.rates = critic.name, critic.compares, critic.rates
        self.version = content_key(critic.version, voting.votes, voting.swap, voting.tie, voting.min_certainty)[:12]
        self.ordered = critic.ordered and not voting.swap
        self.concurrency = critic.concurrency
        self.tally = critic.tally

    def compare(self, a: Clip, b: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Comparison:
        """As `Critic.compare`, what most votes say; `vote` 1 draws as many votes again, of chance of their own."""
        numbers = range(vote * self.voting.votes, (vote + 1) * self.voting.votes)
        votes = [self._both_orders(a, b, prompt, dimension, number) for number in numbers]
        found: Settled[Verdict] = settled(votes, [one.verdict for one in votes])
        margins = [one.margin for one in votes if one.margin is not None]
        return self._counted(
            Comparison(
                verdict=found.choice,
                reason=found.reason,
                certainty=found.certainty,
                margin=fmean(margins) if margins and found.choice else None,
                left_out=found.left_out,
                answers=tuple(answer for one in votes for answer in one.answers),
            )
        )

    def rate(self, video: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Rating:
        """As `Critic.rate`, what most votes say; its score is the mean of those that have one."""
        numbers = range(vote * self.voting.votes, (vote + 1) * self.voting.votes)
        votes = [self.critic.rate(video, prompt, dimension, vote=number) for number in numbers]
        found: Settled[Grade] = settled(votes, [one.grade for one in votes])
        scores = [one.score for one in votes if one.score is not None]
        return self._counted(
            Rating(
                grade=found.choice,
                score=fmean(scores) if scores and found.choice else None,
                reason=found.reason,
                certainty=found.certainty,
                left_out=found.left_out,
                answers=tuple(answer for one in votes for answer in one.answers),
            )
        )

    def _both_orders(self, a: Clip, b: Clip, prompt: str, dimension: str, vote: int) -> Comparison:
        """One vote: in both orders where that is wanted and the critic sees an order."""
        first = banded(self.critic.compare(a, b, prompt, dimension, vote=vote), self.voting.tie)
        if not (self.voting.swap and self.critic.ordered) or first.verdict is None:
            return first
        second = banded(self.critic.compare(b, a, prompt, dimension, vote=vote), self.voting.tie)
        return in_both_orders(first, second)

    def _counted(self, found: T) -> T:
        """Drop what the critic is too unsure of, and count what is left out for another reason than its answers."""
        sure = found.certainty
        if not found.left_out and sure is not None and sure < self.voting.min_certainty:
            bare: dict[str, Any] = (
                {"verdict": None} if isinstance(found, Comparison) else {"grade": None, "score": None}
            )
            found = replace(found, left_out=UNCERTAIN, **bare)
        if found.left_out in (INCONSISTENT, UNDECIDED, UNCERTAIN):
            self.tally.add(**{found.left_out: 1})
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled(Generic[C]):
    """What several votes come to."""

    choice: C | None
    reason: str = ""
    certainty: float | None = None
    left_out: str = ""


def settled(votes: Sequence[Comparison | Rating], choices: Sequence[C | None]) -> Settled[C]:
    """The choice that more votes made than any other.

    Its certainty is its share of all votes, those without a choice among them; of a single vote, the critic's own.

    Args:
        votes: at least one.
        choices: what each chose, None where it has no verdict.
    """
    counts = Counter(choice for choice in choices if choice is not None).most_common()
    if not counts:
        reasons = Counter(vote.left_out for vote in votes).most_common(1)
        return Settled(choice=None, left_out=reasons[0][0])
    if len(counts) > 1 and counts[0][1] == counts[1][1]:
        return Settled(choice=None, left_out=UNDECIDED)
    choice, most = counts[0]
    speaker = votes[choices.index(choice)]
    sure = speaker.certainty if len(votes) == 1 else most / len(votes)
    return Settled(choice=choice, reason=speaker.reason, certainty=sure)


def in_both_orders(first: Comparison, second: Comparison) -> Comparison:
    """One vote of two askings, the second with the videos the other way round: a verdict only where both agree.

    Returns:
        Margin and certainty are the means of both.
    """
    answers = (*first.answers, *second.answers)
    if first.verdict is None or second.verdict is None:
        return Comparison(verdict=None, left_out=first.left_out or second.left_out, answers=answers)
    if first.verdict != OTHER_SIDE[second.verdict]:
        return Comparison(verdict=None, left_out=INCONSISTENT, answers=answers)
    sure = [one.certainty for one in (first, second) if one.certainty is not None]
    margins = [each for each in (first.margin, None if second.margin is None else -second.margin) if each is not None]
    return Comparison(
        verdict=first.verdict,
        reason=first.reason,
        certainty=fmean(sure) if len(sure) == 2 else None,
        margin=fmean(margins) if len(margins) == 2 else None,
        answers=answers,
    )


def banded(found: Comparison, tie: float) -> Comparison:
    """A comparison by numbers, a tie where they are no further apart than `tie`; any other as it is."""
    if found.verdict is None or found.margin is None or abs(found.margin) > tie:
        return found
    return replace(found, verdict="tie")
