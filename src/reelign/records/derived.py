"""Whatever follows from the judgements of a workspace, computed when it is asked for and stored nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

from sqlalchemy import select

from reelign.records.agreement import Agreement, agreement, comparison_counts
from reelign.records.answers import Kind
from reelign.records.arena import ArenaRow, arena
from reelign.records.columns import FIELDS, Comparisons
from reelign.records.judgement_log import holds
from reelign.records.panel import JudgeStatistics, answered_right, grader_statistics, judge_statistics
from reelign.records.schema import Judgement, Task, Video
from reelign.records.votes import Vote, votes
from reelign.records.workspace import Workspace


class VideoOf(NamedTuple):
    """What the arena asks of a video."""

    prompt_id: int
    generator: str


def comparisons(workspace: Workspace) -> Comparisons:
    """All judgements of pairs that hold, as columns."""
    columns = [getattr(Judgement, name) for name in FIELDS]
    of_pairs = Judgement.kind.in_(("pairwise", "best_of"))
    with workspace.reading() as session:
        rows = session.execute(select(*columns).where(holds(), of_pairs).order_by(Judgement.id))
        return Comparisons.from_rows([tuple(row) for row in rows])


def workspace_votes(workspace: Workspace) -> list[Vote]:
    """The majority vote on every judged pair and dimension."""
    return votes(comparisons(workspace))


def workspace_agreement(workspace: Workspace) -> list[Agreement]:
    """How far the judges of pairs agree, by dimension."""
    return agreement(comparison_counts(comparisons(workspace)))


def grades(workspace: Workspace, kind: Kind) -> list[Judgement]:
    """What is needed of all judgements of single videos of a kind that hold, in order; other fields are not loaded."""
    columns = (Judgement.kind, Judgement.video_a, Judgement.dimension, Judgement.verdict, Judgement.judge)
    with workspace.reading() as session:
        rows = session.execute(select(*columns).where(holds(), Judgement.kind == kind).order_by(Judgement.id))
        return cast("list[Judgement]", rows.all())


def workspace_judges(workspace: Workspace, *, columns: Comparisons | None = None) -> list[JudgeStatistics]:
    """Statistics of every judge of pairs; `columns` are the workspace's `comparisons`, where they were read before."""
    durations, gold = _timed_and_gold(workspace)
    return judge_statistics(columns or comparisons(workspace), durations=durations, gold=gold)


def workspace_graders(workspace: Workspace, kind: Kind, *, given: Sequence[Judgement]) -> list[JudgeStatistics]:
    """Statistics of every judge of single videos; `given` are the workspace's `grades`."""
    durations, gold = _timed_and_gold(workspace)
    return grader_statistics(given, kind, durations=durations, gold=gold)


def workspace_arena(
    workspace: Workspace, *, dimension: str | None = None, voted: Sequence[Vote] | None = None
) -> list[ArenaRow]:
    """The arena table of all generators, each adapter a contestant of its own.

    Args:
        workspace: whose.
        dimension: only this one.
        voted: the workspace's `workspace_votes`, where they were counted before.
    """
    with workspace.reading() as session:
        rows = session.execute(select(Video.id, Video.prompt_id, Video.generator, Video.adapter))
        videos = {
            key: VideoOf(prompt, f"{name} + {adapter}" if adapter else name) for key, prompt, name, adapter in rows
        }
    return arena(
        workspace_votes(workspace) if voted is None else voted,
        {key: video.generator for key, video in videos.items()},
        {key: video.prompt_id for key, video in videos.items()},
        dimension=dimension,
    )


def _timed_and_gold(workspace: Workspace) -> tuple[dict[str, list[float]], list[tuple[str, bool]]]:
    """Judge to the seconds of each judgement; and judge and whether a gold question was answered right."""
    durations: dict[str, list[float]] = {}
    with workspace.reading() as session:
        timed = select(Judgement.judge, Judgement.duration_s).where(holds(), Judgement.duration_s.is_not(None))
        for judge, seconds in session.execute(timed):
            durations.setdefault(judge, []).append(float(seconds or 0))
        asked = select(Judgement, Task).join(Task, Judgement.task == Task.id).where(holds(), Task.gold.is_not(None))
        gold = [
            (judgement.judge, answered_right(judgement, task))
            for judgement, task in session.execute(asked)
            if judgement.dimension in (task.gold or {})
        ]
    return durations, gold
