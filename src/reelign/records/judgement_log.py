"""Judgements as a log: rows are added and never changed; what holds is what nothing later supersedes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, and_, exists, select
from sqlalchemy.orm import Session, aliased

from reelign.errors import ReelignError
from reelign.records.answers import WITHDRAWN, check_judgement
from reelign.records.database import insert_new
from reelign.records.schema import JudgeEntry, Judgement

Row = TypeVar("Row")

COLUMNS = tuple(column.key for column in Judgement.__mapper__.column_attrs if column.key != "id")
SAME_QUESTION = ("kind", "video_a", "video_b", "candidates", "dimension", "judge")
"""What a correction may not change."""
ROWS_AT_A_TIME = 5_000


def holds() -> ColumnElement[bool]:
    """The condition of judgements that are neither superseded nor withdrawals, by judges who are not excluded."""
    later = aliased(Judgement)
    return and_(
        Judgement.verdict != WITHDRAWN,
        ~exists().where(later.supersedes == Judgement.key),
        Judgement.judge.not_in(select(JudgeEntry.name).where(JudgeEntry.excluded)),
    )


def append(session: Session, judgements: Iterable[Judgement]) -> None:
    """Add judgements and the names of their judges; one whose key is known already stays as it was first recorded.

    Raises:
        ReelignError: an impossible judgement, or one that supersedes none, another question's, or one that is
            superseded already.
    """
    for some in in_chunks(judgements, ROWS_AT_A_TIME):
        for judgement in some:
            check_judgement(judgement)
        insert_new(session, JudgeEntry, _judges(some), by="name")
        # A row may supersede one of its own batch: then the earlier has to stand before the later is looked at.
        plain = [each for each in some if each.supersedes is None]
        insert_new(session, Judgement, map(row_of, plain), by="key")
        for each in some:
            if each.supersedes is not None:
                _check_supersedes(session, each)
                insert_new(session, Judgement, [row_of(each)], by="key")


def withdrawal(judgement: Judgement) -> Judgement:
    """The row that takes a judgement back."""
    fields = {name: getattr(judgement, name) for name in (*SAME_QUESTION, "judge_version", "shown_left", "task")}
    return Judgement(**fields, verdict=WITHDRAWN, supersedes=judgement.key)


def row_of(judgement: Judgement) -> dict[str, Any]:
    """The values of all columns but the id."""
    return {name: getattr(judgement, name) for name in COLUMNS}


def in_chunks(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """The rows in lists of at most `size`."""
    rows = iter(rows)
    while chunk := list(islice(rows, size)):
        yield chunk


def _judges(judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    names = dict.fromkeys(each.judge for each in judgements)
    return [{"name": name, "kind": "person", "excluded": False} for name in names]


def _check_supersedes(session: Session, judgement: Judgement) -> None:
    old = session.scalar(select(Judgement).where(Judgement.key == judgement.supersedes))
    if old is None:
        raise ReelignError(
            f"there is no judgement {judgement.supersedes} to supersede", "Name the key of one that is recorded."
        )
    if any(getattr(old, name) != getattr(judgement, name) for name in SAME_QUESTION):
        raise ReelignError(
            f"judgement {old.key} is not of the same judge, videos and dimension",
            "A correction answers the same question; record any other as a judgement of its own.",
        )
    later = session.scalar(select(Judgement.key).where(Judgement.supersedes == old.key))
    if later not in (None, judgement.key):
        raise ReelignError(f"judgement {old.key} is superseded already, by {later}", f"Supersede {later}.")
