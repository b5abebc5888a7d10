"""The numbers of the admin page, computed when it is asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from reelign.annotate.settings import AnnotateSettings
from reelign.records import Invitation, JudgeEntry, Judgement, Opening, Prompt, Showing, Video, Vote, Workspace
from reelign.records.agreement import Agreement, agreement
from reelign.records.arena import ArenaRow
from reelign.records.assignments import ANSWERED, SKIPPED
from reelign.records.derived import workspace_agreement, workspace_arena, workspace_judges, workspace_votes
from reelign.records.grades import grade_counts
from reelign.records.judgement_log import holds
from reelign.records.panel import JudgeStatistics, Share

MOST_SPLIT = 25
"""Disagreements on the page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """A row of the table of judges."""

    name: str
    kind: str
    paused: bool
    excluded: bool
    invited: bool
    """Came to this page; critics, rewards and imported judges did not."""
    answered: int
    skipped: int
    repeats: Share
    """Questions answered the same when they came back."""
    statistics: JudgeStatistics | None
    """Of pairs; None without any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Disagreement:
    """A pair on whose better video its judges do not agree."""

    prompt: str
    vote: Vote


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """Everything the admin page shows."""

    covered: list[int]
    """How many questions have 0, 1, 2, … of the judgements they want."""
    agreement: list[Agreement]
    arena: list[ArenaRow]
    people: list[Person]
    disagreements: list[Disagreement]

    @property
    def questions(self) -> int:
        return sum(self.covered)

    @property
    def done(self) -> float:
        """Share of all wanted judgements that were made, in [0, 1]."""
        wanted = self.questions * (len(self.covered) - 1)
        return sum(count * number for count, number in enumerate(self.covered)) / wanted if wanted else 0.0


def overview(workspace: Workspace, settings: AnnotateSettings) -> Overview:
    """Look at everything once."""
    statistics = {each.judge: each for each in workspace_judges(workspace)}
    with workspace.reading() as session:
        covered = _covered(session, settings.judges_per_item)
        people = _people(session, statistics)
    votes = workspace_votes(workspace)
    return Overview(
        covered=covered,
        agreement=_agreement(workspace, settings),
        arena=workspace_arena(workspace),
        people=people,
        disagreements=_disagreements(workspace, votes),
    )


def _covered(session: Session, wanted: int) -> list[int]:
    excluded = select(JudgeEntry.name).where(JudgeEntry.excluded)
    answers = (
        select(Showing.task, func.count().label("answers"))
        .where(Showing.state == ANSWERED, Showing.turn == 0, Showing.judge.not_in(excluded))
        .group_by(Showing.task)
        .subquery()
    )
    count = func.coalesce(answers.c.answers, 0)
    query = select(count, func.count()).select_from(Opening).outerjoin(answers, answers.c.task == Opening.task)
    covered = [0] * (wanted + 1)
    for answered, number in session.execute(query.where(Opening.gold.is_(False)).group_by(count)):
        covered[min(answered, wanted)] += number
    return covered


def _people(session: Session, statistics: dict[str, JudgeStatistics]) -> list[Person]:
    invited = {each.judge: each for each in session.scalars(select(Invitation))}
    entries = {each.name: each for each in session.scalars(select(JudgeEntry))}
    counted = session.execute(select(Showing.judge, Showing.state, func.count()).group_by(Showing.judge, Showing.state))
    counts = {(judge, state): number for judge, state, number in counted}
    repeats = _repeats(session)
    return [
        Person(
            name=name,
            kind=entries[name].kind if name in entries else "person",
            paused=name in invited and invited[name].paused,
            excluded=name in entries and entries[name].excluded,
            invited=name in invited,
            answered=counts.get((name, ANSWERED), 0),
            skipped=counts.get((name, SKIPPED), 0),
            repeats=Share.count(*repeats.get(name, (0, 0))),
            statistics=statistics.get(name),
        )
        for name in sorted({*invited, *entries})
    ]


def _repeats(session: Session) -> dict[str, tuple[int, int]]:
    """Of each judge: how many answers were the same the second time, and how many questions came back."""
    again = select(Showing.task).where(Showing.turn == 1, Showing.state == ANSWERED).distinct()
    given: dict[tuple[str, str, str], list[Judgement]] = defaultdict(list)
    for each in session.scalars(select(Judgement).where(Judgement.task.in_(again), holds()).order_by(Judgement.id)):
        given[each.judge, str(each.task), each.dimension].append(each)
    found: dict[str, tuple[int, int]] = {}
    for (judge, *_), answers in given.items():
        if len(answers) == 2:
            same, asked = found.get(judge, (0, 0))
            found[judge] = (same + (_meant(answers[0]) == _meant(answers[1])), asked + 1)
    return found


def _meant(judgement: Judgement) -> str:
    """The verdict, whatever the order shown."""
    candidates = judgement.candidates
    return candidates[int(judgement.verdict)] if candidates and judgement.verdict.isdigit() else judgement.verdict


def _agreement(workspace: Workspace, settings: AnnotateSettings) -> list[Agreement]:
    if settings.scale in ("pairwise", "best_of"):
        return workspace_agreement(workspace)
    return agreement(grade_counts(workspace.judgements(), settings.scale))


def _disagreements(workspace: Workspace, votes: Sequence[Vote]) -> list[Disagreement]:
    """The pairs with the least consistent votes, each once with its worst dimension."""
    split = sorted(
        (vote for vote in votes if vote.count > 1 and vote.consistency < 1), key=lambda vote: vote.consistency
    )
    worst: dict[tuple[str, str], Vote] = {}
    for vote in sorted(split, key=lambda vote: vote.consistency):
        worst.setdefault((vote.video_a, vote.video_b), vote)
    chosen = list(worst.values())[:MOST_SPLIT]
    with workspace.reading() as session:
        texts = select(Video.id, Prompt.text).join(Prompt)
        asked = texts.where(Video.id.in_([vote.video_a for vote in chosen]))
        prompts = dict(session.execute(asked).all())
    return [Disagreement(prompt=prompts[vote.video_a], vote=vote) for vote in chosen]
