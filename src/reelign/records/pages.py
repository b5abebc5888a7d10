"""What a page shows of a record: some rows at a time, found through an index however large the record is."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from reelign.records.judgement_log import holds
from reelign.records.schema import JudgeEntry, Judgement, Prompt, Video

ROWS_PER_PAGE = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptPage:
    """A prompt, its videos in the order of their groups, and what was said of them, in order."""

    prompt: Prompt
    videos: list[Video]
    judgements: list[Judgement]


def latest_judgements(
    session: Session,
    *,
    before: int | None = None,
    judge: str | None = None,
    dimension: str | None = None,
    limit: int = ROWS_PER_PAGE,
) -> list[Judgement]:
    """Judgements that hold, the latest first.

    Args:
        session: from `Workspace.reading`.
        before: the id of the last judgement on the page before; None for the first page.
        judge, dimension: only these.
        limit: how many.
    """
    query = select(Judgement).where(holds()).order_by(Judgement.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Judgement.id < before)
    if judge is not None:
        query = query.where(Judgement.judge == judge)
    if dimension is not None:
        query = query.where(Judgement.dimension == dimension)
    return list(session.scalars(query))


def of_pair(session: Session, one: str, other: str) -> list[Judgement]:
    """The judgements that hold on two videos, whichever way they were shown, in order."""
    both = or_(
        (Judgement.video_a == one) & (Judgement.video_b == other),
        (Judgement.video_a == other) & (Judgement.video_b == one),
    )
    return list(session.scalars(select(Judgement).where(both, holds()).order_by(Judgement.id)))


def of_video(session: Session, video: str) -> list[Judgement]:
    """The judgements that hold on a video by itself, in order."""
    alone = (Judgement.video_a == video) & Judgement.video_b.is_(None) & Judgement.candidates.is_(None)
    return list(session.scalars(select(Judgement).where(alone, holds()).order_by(Judgement.id)))


def of_prompt(session: Session, prompt_id: int) -> PromptPage:
    """A prompt's page."""
    order = (Video.adapter, Video.index, Video.seed, Video.id)
    videos = list(session.scalars(select(Video).where(Video.prompt_id == prompt_id).order_by(*order)))
    about = Judgement.video_a.in_([video.id for video in videos])
    judgements = list(session.scalars(select(Judgement).where(about, holds()).order_by(Judgement.id)))
    return PromptPage(prompt=session.get_one(Prompt, prompt_id), videos=videos, judgements=judgements)


def prompts_after(session: Session, prompt_id: int = 0, *, limit: int = ROWS_PER_PAGE) -> list[Prompt]:
    """The next prompts, in the order they were added."""
    return list(session.scalars(select(Prompt).where(Prompt.id > prompt_id).order_by(Prompt.id).limit(limit)))


def judgements_made(session: Session, judge: str) -> int:
    """How many rows a judge has added, corrections and withdrawals counted: a judge's pace."""
    return session.scalar(select(func.count()).select_from(Judgement).where(Judgement.judge == judge)) or 0


def judge_names(session: Session) -> list[str]:
    """All judges, by name."""
    return list(session.scalars(select(JudgeEntry.name).order_by(JudgeEntry.name)))
