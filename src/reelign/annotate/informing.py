"""Keeps each opening's `information` up to date with what was said of its group."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from reelign.annotate.information import information
from reelign.annotate.planning import tasks_of
from reelign.annotate.settings import AnnotateSettings
from reelign.records import Judgement, Opening, Task, Workspace
from reelign.records.answers import CANNOT_SAY
from reelign.records.columns import SLIGHTLY, VALUES
from reelign.records.judgement_log import holds


class Informing:
    """Which tasks are about one group, and what one more judgement of each would tell."""

    def __init__(self, workspace: Workspace, settings: AnnotateSettings) -> None:
        by_prompt: dict[str, list[Task]] = {}
        prompts = {video.id: str(video.prompt_id) for video in workspace.videos(settings.split, settings.adapter)}
        for task in tasks_of(workspace, settings):
            by_prompt.setdefault(prompts[task.videos[0]], []).append(task)
        self._groups = {task.id: group for group in by_prompt.values() for task in group}
        with workspace.writing() as session:
            for group in by_prompt.values():
                self.learn(session, group[0].id)

    def learn(self, session: Session, task_id: str) -> None:
        """Take into account what holds now of a task's group; a gold task, of no group, tells nothing."""
        group = self._groups.get(task_id)
        if group is None:
            return
        videos = sorted({video for task in group for video in task.videos})
        place = {video: index for index, video in enumerate(videos)}
        found = information(len(videos), _outcomes(session, group, place))
        for task in group:
            one, other = (place[video] for video in task.videos)
            query = update(Opening).where(Opening.task == task.id).values(information=float(found[one, other]))
            session.execute(query, execution_options={"synchronize_session": False})


def _outcomes(session: Session, group: Sequence[Task], place: dict[str, int]) -> list[tuple[int, int, float]]:
    asked = Judgement.task.in_([task.id for task in group])
    rows = session.scalars(select(Judgement).where(asked, holds(), Judgement.verdict != CANNOT_SAY))
    return [(place[each.video_a], place[str(each.video_b)], 0.5 + 0.5 * _value(each)) for each in rows]


def _value(judgement: Judgement) -> float:
    return VALUES[judgement.verdict] * (SLIGHTLY if judgement.strength == "slightly" else 1.0)
