"""What follows from all judgements at once, for the overview: agreement, arena, judges, disagreements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from reelign.annotate.settings import AnnotateSettings
from reelign.records import JudgeEntry, Judgement, Prompt, Showing, Video, Vote, Workspace
from reelign.records.agreement import Agreement, agreement, comparison_counts
from reelign.records.arena import ArenaRow
from reelign.records.assignments import ANSWERED
from reelign.records.derived import comparisons, grades, workspace_arena, workspace_graders, workspace_judges
from reelign.records.grades import GradeVote, grade_counts, grade_votes
from reelign.records.judgement_log import holds
from reelign.records.panel import JudgeStatistics
from reelign.records.votes import votes

MOST_SPLIT = 25
"""Disagreements on the page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """What the figures follow from; while it stays the same, so do they."""

    last: int
    """The id of the latest judgement; ids count from 1, so that it also says how large the record is."""
    excluded: tuple[str, ...]
    """Judges, by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Disagreement:
    """A question to which its judges do not answer alike."""

    prompt: str
    videos: tuple[str, ...]
    """Two of a pair, one of a grade."""
    vote: Vote | GradeVote


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """Of the whole record, as it was at `mark`."""

    mark: Mark
    at: datetime
    agreement: list[Agreement]
    arena: list[ArenaRow]
    judges: dict[str, JudgeStatistics]
    """Of pairs, or of single videos where these are asked about."""
    handled: dict[tuple[str, str], int]
    """Judge and state to how many questions."""
    repeats: dict[str, tuple[int, int]]
    """Of each judge: how many answers were the same the second time, and how many questions came back."""
    disagreements: list[Disagreement]


def mark_of(workspace: Workspace) -> Mark:
    """Where the record stands."""
    with workspace.reading() as session:
        last = session.scalar(select(func.max(Judgement.id))) or 0
        excluded = session.scalars(select(JudgeEntry.name).where(JudgeEntry.excluded).order_by(JudgeEntry.name))
        return Mark(last=last, excluded=tuple(excluded))


def count_figures(workspace: Workspace, settings: AnnotateSettings) -> Figures:
    """Look at every judgement once; seconds for a hundred thousand, a minute for a million."""
    mark, at = mark_of(workspace), datetime.now(UTC)
    columns = comparisons(workspace)
    voted = votes(columns)
    of_pairs = settings.scale in ("pairwise", "best_of")
    given = [] if of_pairs else grades(workspace, settings.scale)
    with workspace.reading() as session:
        each = (Showing.judge, Showing.state)
        rows = session.execute(select(*each, func.count()).group_by(*each))
        handled = {(judge, state): number for judge, state, number in rows}
        repeats = _repeats(session)
        disagreements = _disagreements(session, voted if of_pairs else grade_votes(given))
    judges = (
        workspace_judges(workspace, columns=columns)
        if of_pairs
        else workspace_graders(workspace, settings.scale, given=given)
    )
    return Figures(
        mark=mark,
        at=at,
        agreement=agreement(comparison_counts(columns) if of_pairs else grade_counts(given, settings.scale)),
        arena=workspace_arena(workspace, voted=voted),
        judges={each.judge: each for each in judges},
        handled=handled,
        repeats=repeats,
        disagreements=disagreements,
    )


def _repeats(session: Session) -> dict[str, tuple[int, int]]:
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


def _disagreements(session: Session, voted: Sequence[Vote | GradeVote]) -> list[Disagreement]:
    """What the least consistent votes are on, each pair or video once with its worst dimension."""
    split = [vote for vote in voted if vote.count > 1 and vote.consistency < 1]
    worst: dict[tuple[str, ...], Vote | GradeVote] = {}
    for vote in sorted(split, key=lambda vote: vote.consistency):
        worst.setdefault((vote.video_a, vote.video_b) if isinstance(vote, Vote) else (vote.video,), vote)
    chosen = list(worst.items())[:MOST_SPLIT]
    texts = select(Video.id, Prompt.text).join(Prompt)
    prompts = dict(session.execute(texts.where(Video.id.in_([videos[0] for videos, _ in chosen]))).all())
    return [Disagreement(prompt=prompts[videos[0]], videos=videos, vote=vote) for videos, vote in chosen]
