"""What is asked: tasks made from the candidates of each prompt, and which of them are open now."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import combinations

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from reelign.annotate.settings import AnnotateSettings, Gold
from reelign.errors import ReelignError
from reelign.records import JudgeEntry, Opening, Showing, Task, Video, Workspace, content_key
from reelign.records.assignments import ANSWERED, EXPIRED, OPEN
from reelign.records.judgement_log import in_chunks

ROWS_AT_A_TIME = 5_000


def plan(workspace: Workspace, settings: AnnotateSettings) -> int:
    """Record the tasks that the settings ask for, open these and no others, and return how many they are.

    Raises:
        ReelignError: there is nothing to ask about, or a gold question about an unknown video.
    """
    tasks = list(tasks_of(workspace, settings))
    if not tasks:
        raise ReelignError(
            f"No prompt of split {settings.split!r} has videos enough for a question of scale {settings.scale!r}.",
            "Generate candidates first: reelign generate -w WORKSPACE candidates=4; or set annotate.split and adapter.",
        )
    gold = [_gold_task(each, settings) for each in settings.gold]
    _check_known(workspace, gold)
    workspace.add_tasks([*tasks, *gold])
    with workspace.writing() as session:
        _open(session, tasks, gold, settings)
    return len(tasks)


def tasks_of(workspace: Workspace, settings: AnnotateSettings) -> Iterator[Task]:
    """A task for each question about the candidates of each prompt; the same candidates give the same tasks."""
    for group in workspace.groups(settings.split, settings.adapter):
        questions = _questions(group.videos, settings)
        yield from (_task(videos, settings) for videos in questions[: settings.pairs_per_prompt or None])


def taken_of(session: Session, tasks: Sequence[str]) -> dict[str, int]:
    """Of each task, how many showings are answered or with a judge; excluded judges and repeats do not count."""
    excluded = select(JudgeEntry.name).where(JudgeEntry.excluded)
    found = dict.fromkeys(tasks, 0)
    for some in in_chunks(tasks, ROWS_AT_A_TIME):
        query = select(Showing.task, func.count()).where(
            Showing.task.in_(some), Showing.turn == 0, Showing.state.in_((OPEN, ANSWERED))
        )
        found.update(
            (task, count)
            for task, count in session.execute(query.where(Showing.judge.not_in(excluded)).group_by("task"))
        )
    return found


def _questions(videos: Sequence[Video], settings: AnnotateSettings) -> list[tuple[Video, ...]]:
    """Sets of candidates; the first ones link all candidates with each other, so that any few of them say something."""
    if settings.scale == "pairwise":
        pairs = sorted(
            combinations(range(len(videos)), 2), key=lambda pair: (_apart(pair[0], pair[1], len(videos)), pair)
        )
        return [(videos[first], videos[second]) for first, second in pairs]
    if settings.scale == "best_of":
        size = settings.best_of
        return [tuple(some) for some in in_chunks(videos, size) if len(some) == size]
    return [(video,) for video in videos]


def _apart(first: int, second: int, count: int) -> int:
    """How far two candidates stand from each other in a ring of all; the nearest pairs link everyone."""
    return min(second - first, first + count - second)


def _task(videos: Sequence[Video], settings: AnnotateSettings) -> Task:
    ids = [video.id for video in videos]
    return Task(
        id=content_key(settings.scale, ids, settings.names),
        kind=settings.scale,
        videos=ids,
        dimensions=settings.names,
        wanted=settings.judges_per_item,
    )


def _gold_task(gold: Gold, settings: AnnotateSettings) -> Task:
    return Task(
        id=content_key(settings.scale, gold.videos, settings.names, gold.answers),
        kind=settings.scale,
        videos=list(gold.videos),
        dimensions=settings.names,
        wanted=0,
        gold=dict(gold.answers),
    )


def _check_known(workspace: Workspace, gold: Sequence[Task]) -> None:
    wanted = {video for task in gold for video in task.videos}
    with workspace.reading() as session:
        known = set(session.scalars(select(Video.id).where(Video.id.in_(wanted))))
    if wanted - known:
        raise ReelignError(
            f"annotate.gold names the video {min(wanted - known)!r}, which is not in the record.",
            "Name videos by their ids; the admin page shows them beside each pair.",
        )


def _open(session: Session, tasks: Sequence[Task], gold: Sequence[Task], settings: AnnotateSettings) -> None:
    session.execute(delete(Opening))
    order = list(range(len(tasks)))
    random.Random(settings.seed).shuffle(order)
    taken = taken_of(session, [task.id for task in tasks])
    rows = [
        {"task": task.id, "gold": False, "wanted": settings.judges_per_item, "taken": taken[task.id], "place": place}
        for task, place in zip(tasks, order, strict=True)
    ]
    rows += [
        {"task": task.id, "gold": True, "wanted": 0, "taken": 0, "place": place} for place, task in enumerate(gold)
    ]
    for some in in_chunks(rows, ROWS_AT_A_TIME):
        session.execute(insert(Opening), [{"information": 0.0, **row} for row in some])
    asked = select(Opening.task)
    session.execute(update(Showing).where(Showing.state == OPEN, Showing.task.not_in(asked)).values(state=EXPIRED))
