"""Who is asked what: invited judges, what is open to them, and each showing of a task to one of them."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from sqlalchemy import JSON, Boolean, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from reelign.records.schema import Base, UtcDateTime

OPEN, ANSWERED, SKIPPED, EXPIRED = "open", "answered", "skipped", "expired"
"""A showing: with its judge, answered, put aside by its judge, or given back because its time was over."""


def _now() -> datetime:
    return datetime.now(UTC)


class Invitation(Base, kw_only=True, eq=False):
    """A person who may judge."""

    __tablename__ = "invitations"

    judge: Mapped[str] = mapped_column(primary_key=True)
    token_id: Mapped[str] = mapped_column(unique=True)
    """The open half of the token; a new one ends the sessions of the old."""
    token_hash: Mapped[str | None] = mapped_column(default=None)
    """Argon2 of the secret half; None for a person who joined by name, which is possible on loopback alone."""
    paused: Mapped[bool] = mapped_column(Boolean, default=False)
    """Gets nothing new to judge; what was judged counts."""
    created: Mapped[datetime] = mapped_column(UtcDateTime, default_factory=_now)


class Opening(Base, kw_only=True, eq=False):
    """A task that is being asked now. It follows from tasks and showings, and is made anew at each start."""

    __tablename__ = "openings"
    __table_args__ = (
        Index("ix_openings_taken", "gold", "taken", "place"),
        Index("ix_openings_information", "gold", "information", "taken", "place"),
    )

    task: Mapped[str] = mapped_column(ForeignKey("tasks.id"), primary_key=True)
    gold: Mapped[bool] = mapped_column(Boolean, default=False)
    wanted: Mapped[int]
    """How many judges."""
    taken: Mapped[int] = mapped_column(default=0)
    """Showings that are answered or with a judge, those of excluded judges and repeats not counted."""
    information: Mapped[float] = mapped_column(default=0.0)
    """What one more judgement would tell, where that decides what is asked next."""
    place: Mapped[int]
    """Among equals the lower is asked first."""


class Showing(Base, kw_only=True, eq=False):
    """A task as it is, or was, before one judge."""

    __tablename__ = "showings"
    __table_args__ = (
        UniqueConstraint("task", "judge", "turn"),
        Index("ix_showings_judge", "judge", "state", "changed"),
        Index("ix_showings_until", "state", "until"),
    )

    id: Mapped[str] = mapped_column(primary_key=True, default_factory=lambda: uuid.uuid4().hex)
    task: Mapped[str] = mapped_column(ForeignKey("tasks.id"))
    judge: Mapped[str] = mapped_column(ForeignKey("invitations.judge"))
    turn: Mapped[int] = mapped_column(default=0)
    """1 where the same task is shown to the same judge again, to see whether the answer is the same."""
    videos: Mapped[list[str]] = mapped_column(JSON)
    """In the order shown, from the left."""
    state: Mapped[str] = mapped_column(default=OPEN)
    until: Mapped[datetime] = mapped_column(UtcDateTime)
    """When an open one goes back."""
    revision: Mapped[int] = mapped_column(default=0)
    """How often its answer was taken back."""
    note: Mapped[str | None] = mapped_column(default=None)
    """Why it was skipped."""
    changed: Mapped[datetime] = mapped_column(UtcDateTime, default_factory=_now)
