"""Where judges get questions and hand in answers: each call is one transaction, acknowledged when it is committed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from reelign.annotate import assignment
from reelign.annotate.answers import Answer, judgements, key_of
from reelign.annotate.informing import Informing
from reelign.annotate.questions import Question, questions_of
from reelign.annotate.settings import AnnotateSettings
from reelign.errors import ReelignError
from reelign.records import Judgement, Opening, Showing, Task, Workspace
from reelign.records.assignments import ANSWERED, EXPIRED, OPEN, SKIPPED
from reelign.records.database import open_engine
from reelign.records.judgement_log import append, withdrawal

DESK_LOCK = 7_354_462
"""Any number, the same in every reelign: on PostgreSQL the one lock under which questions are given out."""


class Conflict(ReelignError):
    """What was sent is about a question that is no longer the judge's to answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a judge has to do: the first question now, the others are to be loaded already."""

    questions: tuple[Question, ...]
    done: int
    """Questions the judge answered."""
    last: tuple[str, int] | None
    """Showing and revision of the judge's latest answer, which can be taken back."""
    stopped: bool
    """The judge is paused, or through with the quota: there will be no more."""


class Desk:
    """Questions and answers of one workspace."""

    def __init__(self, workspace: Workspace, settings: AnnotateSettings) -> None:
        self.workspace = workspace
        self.settings = settings
        self._informing = Informing(workspace, settings) if settings.choice == "informative" else None
        # The last connection to leave SQLite tidies up on the disk; while this one stays, none is the last.
        self._stays = open_engine(workspace.url).connect()
        # SQLite lets one writer in and has the others sleep and retry, the unlucky for long; here they queue.
        self._turn = threading.Lock()

    def close(self) -> None:
        """Let go of the database."""
        self._stays.close()

    def work(self, judge: str) -> Work:
        """What is on the judge's desk, filled up; what is there already stays the judge's for another while."""
        with self._writing() as session:
            return self._work(session, judge)

    def answer(self, judge: str, answer: Answer) -> Work:
        """Record an answer, once however often it is sent, and say what comes next.

        Raises:
            ReelignError: an answer that cannot be one to this question.
            Conflict: the question is another judge's by now, or was taken back or put aside elsewhere.
        """
        with self._writing() as session:
            showing = _own(session, judge, answer.showing)
            if showing.revision != answer.revision or showing.state == SKIPPED:
                raise Conflict("this question was changed in another window", "The page goes on with what is current.")
            if showing.state != ANSWERED:
                self._record(session, showing, answer)
            return self._work(session, judge)

    def skip(self, judge: str, showing_id: str, note: str) -> Work:
        """Put a question aside for good, such as one with a video that does not play."""
        with self._writing() as session:
            showing = _own(session, judge, showing_id)
            if showing.state in (OPEN, EXPIRED):
                showing.state, showing.note, showing.changed = SKIPPED, note, datetime.now(UTC)
                assignment.recount(session, [showing.task])
            return self._work(session, judge)

    def undo(self, judge: str, showing_id: str, revision: int) -> Work:
        """Take the judge's latest answer back, once however often it is asked; the question is open again.

        Raises:
            Conflict: it is not the latest.
        """
        with self._writing() as session:
            showing = _own(session, judge, showing_id)
            if (showing.state, showing.revision) != (OPEN, revision + 1):
                if _latest(session, judge) != (showing_id, revision):
                    raise Conflict("this is not your latest answer", "Take the later ones back first.")
                _opening(session, showing)
                self._take_back(session, showing)
            return self._work(session, judge)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction of one's own, in turn with the judges'."""
        with self._writing() as session:
            yield session

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with self._turn, self.workspace.writing() as session:
            if session.get_bind().dialect.name == "postgresql":
                session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": DESK_LOCK})
            yield session

    def _record(self, session: Session, showing: Showing, answer: Answer) -> None:
        task = session.get_one(Task, showing.task)
        if showing.state == EXPIRED:
            self._take_again(session, showing)
        append(session, judgements(answer, showing, task, self.settings))
        showing.state, showing.changed = ANSWERED, datetime.now(UTC)
        session.flush()
        if self._informing is not None:
            self._informing.learn(session, task.id)

    def _take_again(self, session: Session, showing: Showing) -> None:
        """An answer that comes late counts as long as nobody was asked in the judge's place."""
        opening = _opening(session, showing)
        if showing.turn == 0 and not opening.gold and opening.taken >= opening.wanted:
            raise Conflict(
                "you were away for so long that this question went to someone else",
                "The page goes on with the next one.",
            )
        showing.state = ANSWERED
        assignment.recount(session, [showing.task])

    def _take_back(self, session: Session, showing: Showing) -> None:
        keys = [key_of(showing, name) for name in session.get_one(Task, showing.task).dimensions]
        made = list(session.scalars(select(Judgement).where(Judgement.key.in_(keys)).order_by(Judgement.id)))
        append(session, [withdrawal(each) for each in made])
        showing.state, showing.revision, showing.changed = OPEN, showing.revision + 1, datetime.now(UTC)
        session.flush()
        if self._informing is not None:
            self._informing.learn(session, showing.task)

    def _work(self, session: Session, judge: str) -> Work:
        stands = assignment.standing(session, judge)
        held = assignment.holding(session, judge, stands, self.settings)
        return Work(
            questions=tuple(questions_of(session, held)),
            done=stands.answered,
            last=_latest(session, judge),
            stopped=not held and not stands.may_have_more(0, self.settings),
        )


def _own(session: Session, judge: str, showing_id: str) -> Showing:
    showing = session.get(Showing, showing_id)
    if showing is None or showing.judge != judge:
        raise Conflict("this question is not yours", "The page goes on with what is.")
    return showing


def _opening(session: Session, showing: Showing) -> Opening:
    opening = session.get(Opening, showing.task)
    if opening is None:
        raise Conflict("this question is no longer asked", "The page goes on with what is.")
    return opening


def _latest(session: Session, judge: str) -> tuple[str, int] | None:
    query = select(Showing.id, Showing.revision).where(Showing.judge == judge, Showing.state == ANSWERED)
    row = session.execute(query.order_by(Showing.changed.desc()).limit(1)).first()
    return None if row is None else (row.id, row.revision)
