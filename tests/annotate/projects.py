"""Projects to judge, and judges who do."""

from __future__ import annotations

from pathlib import Path

import torch

from reelign.annotate import AnnotateSettings, Dimension
from reelign.annotate.answers import Answer
from reelign.annotate.desk import Desk, Work
from reelign.annotate.invitations import join
from reelign.annotate.planning import plan
from reelign.annotate.questions import Question
from reelign.records import Video, Workspace
from reelign.video import write_video

ONE = (Dimension(name="VQ", question="Which looks better?"),)
PLAIN = {"dimensions": ONE, "gold_rate": 0.0, "repeat_rate": 0.0}


def fill(workspace: Workspace, *, prompts: int, candidates: int) -> Workspace:
    """Prompts and rows of videos without files."""
    known = workspace.add_prompts([f"prompt {number}" for number in range(prompts)], "train")
    size = {"fps": 8.0, "num_frames": 17, "height": 64, "width": 64}
    workspace.add_videos(
        Video(
            id=f"v{prompt.id}-{index}",
            prompt_id=prompt.id,
            generator=f"generator {index}",
            seed=index,
            index=index,
            path=f"videos/{prompt.id}-{index}.mp4",
            **size,
        )
        for prompt in known
        for index in range(candidates)
    )
    return workspace


def film(folder: Path, *, prompts: int, candidates: int = 2, sizes: tuple[tuple[int, float], ...] = ((17, 8),)) -> Path:
    """A workspace with real videos, a bright square that moves; `sizes` are (frames, fps), in turn."""
    workspace = fill(Workspace.create(folder, model="tiny/wan"), prompts=prompts, candidates=0)
    rows = []
    for prompt in workspace.prompts():
        for index in range(candidates):
            frames, fps = sizes[index % len(sizes)]
            path = f"videos/{prompt.id}-{index}.mp4"
            write_video(folder / path, _square(frames, 0.3 + 0.6 * index / candidates), fps)
            size = {"fps": fps, "num_frames": frames, "height": 64, "width": 64}
            rows.append(
                Video(
                    id=f"v{prompt.id}-{index}",
                    prompt_id=prompt.id,
                    generator=f"generator {index}",
                    seed=index,
                    index=index,
                    path=path,
                    **size,
                )
            )
    workspace.add_videos(rows)
    return folder


def desk_of(workspace: Workspace, *judges: str, **settings: object) -> Desk:
    """A desk with judges who joined; one dimension and no gold or repeats unless told."""
    wanted = AnnotateSettings(**{**PLAIN, **settings})  # type: ignore[arg-type]
    plan(workspace, wanted)
    desk = Desk(workspace, wanted)
    with desk.writing() as session:
        for judge in judges:
            join(session, judge)
    return desk


def says(desk: Desk, question: Question, option: str = "left_clearly", **more: object) -> Answer:
    """The same option to every dimension."""
    answers = dict.fromkeys(desk.settings.names, option)
    return Answer(showing=question.showing, revision=question.revision, answers=answers, **more)  # type: ignore[arg-type]


def work_off(desk: Desk, judge: str, option: str = "left_clearly") -> list[tuple[str, ...]]:
    """Answer until nothing is left; returns the videos of each question as shown."""
    seen = []
    work: Work = desk.work(judge)
    while work.questions:
        question = work.questions[0]
        seen.append(tuple(video.id for video in question.videos))
        work = desk.answer(judge, says(desk, question, option))
    return seen


def _square(frames: int, brightness: float) -> torch.Tensor:
    video = torch.full((frames, 3, 64, 64), 0.1)
    for frame in range(frames):
        left = 44 * frame // frames
        video[frame, :, 20:40, left : left + 20] = brightness
    return video
