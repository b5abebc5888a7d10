"""What leaves and enters a record: videos with their prompts, tasks, judgements and scores, free of any database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import PureWindowsPath
from typing import Any

from sqlalchemy import select

from reelign.errors import ReelignError
from reelign.records import judgement_log
from reelign.records.schema import Base, Judgement, Prompt, Score, Task, Video
from reelign.records.workspace import Workspace

ROWS_PER_TRANSACTION = 50_000
OF_PROMPT = ("prompt", "split", "image")
"""Fields of a shared video that are its prompt's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedVideo:
    """A video, and the prompt it was made of; the fields are those of `Video` and `Prompt`."""

    id: str
    prompt: str
    split: str = "train"
    path: str
    content_hash: str | None = None
    generator: str = ""
    adapter: str = ""
    seed: int = 0
    index: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    fps: float
    num_frames: int
    height: int = 0
    width: int = 0
    """0 where nobody said."""
    image: str | None = None
    """The image of the prompt, a file of the workspace."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A record, or a part of it. Judgements may be a stream that can be read once."""

    videos: Sequence[SharedVideo] = ()
    tasks: Sequence[Task] = ()
    judgements: Iterable[Judgement] = ()
    scores: Sequence[Score] = ()


def bundle_of(workspace: Workspace) -> Bundle:
    """The whole record with its history; the files of the videos stay where they are."""
    with workspace.reading() as session:
        of_prompt = (Prompt.text, Prompt.split, Prompt.image)
        rows = session.execute(select(Video, *of_prompt).join(Prompt).order_by(Video.id)).all()
    names = [each.name for each in fields(SharedVideo) if each.name not in OF_PROMPT]
    videos = [
        SharedVideo(prompt=text, split=split, image=image, **{name: getattr(video, name) for name in names})
        for video, text, split, image in rows
    ]
    return Bundle(
        videos=videos,
        tasks=workspace.tasks(),
        judgements=workspace.judgements(history=True),
        scores=workspace.scores(),
    )


def add_bundle(workspace: Workspace, bundle: Bundle) -> None:
    """Add what the workspace does not have yet; what it has already stays as it is. Cut off, it can be repeated.

    Raises:
        ReelignError: a judgement that no judge can have made, or of a video that is neither here nor there; a video
            whose path leads out of the workspace.
    """
    for number, video in enumerate(bundle.videos, start=1):
        _check_path(number, video)
    by_split: dict[str, dict[tuple[str, str | None], None]] = {}
    for video in bundle.videos:
        by_split.setdefault(video.split, {})[video.prompt, video.image or None] = None
    ids = {
        (prompt.text, prompt.image, split): prompt.id
        for split, rows in by_split.items()
        for prompt in workspace.add_prompt_rows(list(rows), split)
    }
    workspace.add_videos(_video(each, ids[each.prompt, each.image or None, each.split]) for each in bundle.videos)
    workspace.add_tasks(bundle.tasks)
    for some in judgement_log.in_chunks(bundle.judgements, ROWS_PER_TRANSACTION):
        workspace.add_judgements(some)
    workspace.add_scores(bundle.scores)


def as_row(thing: SharedVideo | Base) -> dict[str, Any]:
    """Plain values by column; times as ISO text, what is nested as JSON text."""
    if isinstance(thing, SharedVideo):
        values = asdict(thing)
    else:
        values = {each.name: getattr(thing, each.name) for each in fields(type(thing)) if each.init}
    return {name: _plain(value) for name, value in values.items()}


def from_row(kind: type[Any], row: Mapping[str, Any], *, where: str = "") -> Any:
    """What `as_row` took apart; columns that the kind does not have are not looked at.

    Raises:
        ReelignError: a missing column, or a value that cannot be one of its column.
    """
    try:
        return kind(
            **{each.name: _value(each.name, row[each.name]) for each in fields(kind) if each.init and each.name in row}
        )
    except (TypeError, ValueError) as error:
        raise ReelignError(
            f"{where or 'a row'} is no {kind.__name__.lower()}: {error}", "Write the columns as an export has them."
        ) from error


def _check_path(number: int, video: SharedVideo) -> None:
    """A record from elsewhere must not make this workspace read, show or replace files outside of it."""
    for what, name in (("path", video.path), ("image", video.image or "")):
        path = PureWindowsPath(name)  # knows both systems' separators and roots
        if path.anchor or ".." in path.parts:
            raise ReelignError(
                f"video {number} of {video.prompt!r} has the {what} {name!r}, which leads out of the workspace",
                "Put the videos into the workspace's folder and name them relative to it.",
            )


def _video(shared: SharedVideo, prompt_id: int) -> Video:
    values = {each.name: getattr(shared, each.name) for each in fields(shared)}
    return Video(prompt_id=prompt_id, **{name: values[name] for name in values if name not in OF_PROMPT})


_NESTED = frozenset({"settings", "candidates", "defects", "gold", "videos", "dimensions"})


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    return value


def _value(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name == "created":
        return datetime.fromisoformat(value)
    return json.loads(value) if name in _NESTED else value
