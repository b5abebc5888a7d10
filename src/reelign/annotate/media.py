"""The bytes of videos and of the images they go on from: those that the record names and no others."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from fastapi import HTTPException
from sqlalchemy import select

from reelign.annotate.settings import AnnotateSettings
from reelign.errors import ReelignError
from reelign.records import Prompt, Video, Workspace

MEDIA_TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm", ".mov": "video/quicktime"}

IMAGE_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


class Media:
    """Files of one workspace."""

    def __init__(self, workspace: Workspace, settings: AnnotateSettings) -> None:
        """Look where the examples are.

        Raises:
            ReelignError: an example is not there, or no video.
        """
        self._workspace = workspace
        self._examples = [workspace.root / example.video for example in settings.examples]
        for path in self._examples:
            if path.suffix.lower() not in MEDIA_TYPES or not path.is_file():
                raise ReelignError(
                    f"annotate.examples names {path}, which is no video file.",
                    f"Put one there, as {', '.join(MEDIA_TYPES)}; the path is relative to the workspace.",
                )
        self._known: dict[str, str | None] = {}

    def video(self, video_id: str) -> Path:
        """The file of a video in the record.

        Raises:
            HTTPException: 404, no such video, or its file is gone or outside of the workspace.
        """
        if video_id not in self._known:
            with self._workspace.reading() as session:
                video = session.get(Video, video_id)
            if video is None:
                raise HTTPException(404, "There is no such video.")
            self._known[video_id] = video.path if _inside(video.path) else None
        path = self._known[video_id]
        return _file(None if path is None else self._workspace.root / path)

    def image(self, video_id: str) -> Path:
        """The file of the image that a video goes on from.

        Raises:
            HTTPException: 404, no such video, it goes on from none, or the file is gone or outside of the workspace.
        """
        with self._workspace.reading() as session:
            name = session.scalar(select(Prompt.image).join(Video).where(Video.id == video_id))
        path = self._workspace.root / name if name is not None and _inside(name) else None
        if path is None or path.suffix.lower() not in IMAGE_TYPES or not path.is_file():
            raise HTTPException(404, "There is no such image.")
        return path

    def example(self, number: int) -> Path:
        """The file of an example of the instructions, from 0.

        Raises:
            HTTPException: 404.
        """
        return _file(self._examples[number] if 0 <= number < len(self._examples) else None)


def _inside(path: str) -> bool:
    """A record that came from elsewhere may name any path; only those below the workspace are shown to judges."""
    return not Path(path).is_absolute() and ".." not in PurePosixPath(path.replace("\\", "/")).parts


def _file(path: Path | None) -> Path:
    if path is None or path.suffix.lower() not in MEDIA_TYPES or not path.is_file():
        raise HTTPException(404, "There is no such video.")
    return path
