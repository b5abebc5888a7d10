"""Who gets which task next: the least covered first, none twice to one person, leases that end by themselves."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Select, exists, func, select, update
from sqlalchemy.orm import Session, aliased

from reelign.annotate.settings import AnnotateSettings
from reelign.records import Invitation, JudgeEntry, Opening, Showing, Task, content_key
from reelign.records.assignments import ANSWERED, EXPIRED, OPEN, SKIPPED

AHEAD = 2
"""Showings a judge holds: the one on the screen and the one whose videos are being loaded."""
REPEAT_AFTER = 10
"""A question comes back after at least so many others."""
SWEPT_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Standing:
    """How a judge stands."""

    stopped: bool
    """Paused or excluded."""
    answered: int
    """Showings answered."""
    shown: int
    """Showings of any state."""

    def may_have_more(self, held: int, settings: AnnotateSettings) -> bool:
        """Whether the judge, who holds so many, is neither stopped nor through with the quota."""
        limit = settings.judgements_per_judge
        return not self.stopped and (not limit or self.answered + held < limit)


def standing(session: Session, judge: str) -> Standing:
    """Look a judge up."""
    shown = select(func.count()).where(Showing.judge == judge)
    query = select(
        Invitation.paused,
        exists().where(JudgeEntry.name == judge, JudgeEntry.excluded),
        shown.where(Showing.state == ANSWERED).scalar_subquery(),
        shown.scalar_subquery(),
    )
    row = session.execute(query.where(Invitation.judge == judge)).one()
    return Standing(stopped=row[0] or row[1], answered=row[2], shown=row[3])


def holding(session: Session, judge: str, stands: Standing, settings: AnnotateSettings) -> list[Showing]:
    """The showings a judge has open, filled up and with their leases renewed; those taken back come first."""
    _sweep(session, judge)
    mine = select(Showing).where(Showing.judge == judge, Showing.state == OPEN)
    held = list(session.scalars(mine.order_by(Showing.revision.desc(), Showing.changed)))
    until = datetime.now(UTC) + timedelta(minutes=settings.lease_minutes)
    for showing in held:
        showing.until = until
    number = stands.shown
    while len(held) < AHEAD and stands.may_have_more(len(held), settings):
        given = _lease(session, judge, number, until, settings)
        if given is None:
            break
        held.append(given)
        number += 1
    session.flush()
    return held


def recount(session: Session, tasks: list[str]) -> None:
    """Bring `taken` of some openings up to date."""
    excluded = select(JudgeEntry.name).where(JudgeEntry.excluded)
    count = (
        select(func.count())
        .where(
            Showing.task == Opening.task,
            Showing.turn == 0,
            Showing.state.in_((OPEN, ANSWERED)),
            Showing.judge.not_in(excluded),
        )
        .scalar_subquery()
    )
    session.flush()
    query = update(Opening).where(Opening.task.in_(tasks)).values(taken=count)
    session.execute(query, execution_options={"synchronize_session": False})


def release(session: Session, judge: str) -> None:
    """Give back what a judge holds."""
    for showing in list(session.scalars(select(Showing).where(Showing.judge == judge, Showing.state == OPEN))):
        _expire(session, showing)


def _sweep(session: Session, judge: str) -> None:
    """Take back what others held for too long; the judge who is here keeps what is on the screen."""
    over = select(Showing).where(Showing.state == OPEN, Showing.until < datetime.now(UTC), Showing.judge != judge)
    for showing in list(session.scalars(over.limit(SWEPT_AT_ONCE))):
        _expire(session, showing)


def _expire(session: Session, showing: Showing) -> None:
    showing.state = EXPIRED
    recount(session, [showing.task])


def _lease(session: Session, judge: str, number: int, until: datetime, settings: AnnotateSettings) -> Showing | None:
    """The judge's showing of that number; the same number draws the same chance."""
    chance = random.Random(content_key(settings.seed, judge, number))
    draw = chance.random()
    if draw < settings.gold_rate and (task := session.scalar(_unseen_gold(judge))):
        return _show(session, task, judge, 0, until, chance)
    if settings.gold_rate <= draw < settings.gold_rate + settings.repeat_rate and (
        task := session.scalar(_to_repeat(judge))
    ):
        return _show(session, task, judge, 1, until, chance)
    task = session.scalar(_next_task(judge, settings))
    return None if task is None else _show(session, task, judge, 0, until, chance)


def _show(session: Session, task_id: str, judge: str, turn: int, until: datetime, chance: random.Random) -> Showing:
    videos = list(session.get_one(Task, task_id).videos)
    chance.shuffle(videos)
    again = select(Showing).where(Showing.task == task_id, Showing.judge == judge, Showing.turn == turn)
    showing = session.scalar(again)
    if showing is None:
        showing = Showing(task=task_id, judge=judge, turn=turn, videos=videos, until=until)
        session.add(showing)
    else:  # it was given back before
        showing.state, showing.until, showing.changed = OPEN, until, datetime.now(UTC)
    recount(session, [task_id])
    return showing


def _next_task(judge: str, settings: AnnotateSettings) -> Select[str]:
    query = select(Opening.task).where(Opening.gold.is_(False), Opening.taken < Opening.wanted, ~_seen(judge))
    if settings.choice == "informative":
        query = query.order_by(Opening.information.desc())
    return query.order_by(Opening.taken, Opening.place).limit(1)


def _unseen_gold(judge: str) -> Select[str]:
    return select(Opening.task).where(Opening.gold.is_(True), ~_seen(judge)).order_by(Opening.place).limit(1)


def _to_repeat(judge: str) -> Select[str]:
    """The task that the judge answered longest ago and was not asked again, if enough others lie between."""
    second = aliased(Showing)
    again = exists().where(second.task == Showing.task, second.judge == judge, second.turn == 1)
    recent = (
        select(Showing.id)
        .where(Showing.judge == judge, Showing.state == ANSWERED)
        .order_by(Showing.changed.desc())
        .limit(REPEAT_AFTER)
    )
    return (
        select(Showing.task)
        .join(Opening, Opening.task == Showing.task)
        .where(Showing.judge == judge, Showing.state == ANSWERED, Showing.turn == 0)
        .where(Opening.gold.is_(False), Showing.id.not_in(recent), ~again)
        .order_by(Showing.changed)
        .limit(1)
    )


def _seen(judge: str) -> ColumnElement[bool]:
    state = Showing.state.in_((OPEN, ANSWERED, SKIPPED))
    return exists().where(Showing.task == Opening.task, Showing.judge == judge, state)
