"""What the page is told of a showing: its prompt and its videos, and nothing of what made them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from reelign.records import Prompt, Showing, Video


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownVideo:
    """What the page has to know of a video; nothing that tells what made it."""

    id: str
    fps: float
    num_frames: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A showing with all that the page shows of it, videos from the left."""

    showing: str
    revision: int
    prompt: str
    image: bool
    """Whether the videos go on from an image; it is that of any of them."""
    videos: tuple[ShownVideo, ...]


def questions_of(session: Session, held: Sequence[Showing]) -> Iterator[Question]:
    """What the page shows of each showing."""
    ids = {video for showing in held for video in showing.videos}
    rows = session.execute(select(Video, Prompt).join(Prompt).where(Video.id.in_(ids)))
    known = {video.id: (video, prompt) for video, prompt in rows}
    for showing in held:
        videos = [known[each][0] for each in showing.videos]
        yield Question(
            showing=showing.id,
            revision=showing.revision,
            prompt=known[showing.videos[0]][1].text,
            image=known[showing.videos[0]][1].image is not None,
            videos=tuple(ShownVideo(id=each.id, fps=each.fps, num_frames=each.num_frames) for each in videos),
        )
