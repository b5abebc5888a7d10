"""A user's project folder and the database in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, event, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DatabaseError, IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from reelign.errors import ReelignError
from reelign.records.schema import SCHEMA_VERSION, VERDICTS, Base, Judgement, Meta, Prompt, Video

DATABASE = "reelign.db"
FOLDERS = ("videos", "latents", "cache", "runs")
BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for another before it gives up."""
ROWS_PER_INSERT = 500
"""SQLite takes 32766 values a statement; a video has 15."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """The candidates of one prompt, in the order of their place in the group."""

    prompt: Prompt
    videos: tuple[Video, ...]


class Workspace:
    """A folder with `reelign.db`, videos/, latents/, cache/ and runs/.

    Every method is one short transaction: what it returned is kept, what was cut off never happened. Several
    processes may read while one writes; writers wait for each other.
    """

    def __init__(self, root: Path, engine: Engine, model: str) -> None:
        """Use `create` or `open`."""
        self.root = root
        self.model = model
        """The generator that the workspace was made for: a folder or a hub id."""
        self._engine = engine

    @classmethod
    def create(cls, folder: str | Path, *, model: str) -> Workspace:
        """Make a workspace; one that is there already for the same model is opened as it is.

        Raises:
            ReelignError: the folder holds a workspace of another model, or is a file.
        """
        root = Path(folder).resolve()
        if root.exists() and not root.is_dir():
            raise ReelignError(f"{root} is a file", "Name a folder for the workspace.")
        if not (root / DATABASE).exists():
            root.mkdir(parents=True, exist_ok=True)
            _make_database(root / DATABASE, model)
        workspace = cls.open(root)
        if workspace.model != model:
            raise ReelignError(
                f"the workspace {root} was made for {workspace.model}, not for {model}",
                "Make another workspace for another model, or leave the model out.",
            )
        return workspace

    @classmethod
    def open(cls, folder: str | Path) -> Workspace:
        """Open a workspace.

        Raises:
            ReelignError: no such folder, no database in it, a damaged one, or one of a newer reelign.
        """
        root = Path(folder).resolve()
        if not root.is_dir():
            raise ReelignError(f"no workspace at {root}: there is no such folder", f"Make one: reelign init {folder}")
        path = root / DATABASE
        if not path.is_file():
            raise ReelignError(f"{root} is no workspace: it has no {DATABASE}", f"Make one: reelign init {folder}")
        engine = _engine(path)
        with _readable(path), Session(engine) as session:
            meta = {row.key: row.value for row in session.scalars(select(Meta))}
        _check_version(path, meta.get("schema_version", ""))
        for name in FOLDERS:
            (root / name).mkdir(exist_ok=True)
        return cls(root, engine, meta["model"])

    def video_path(self, video: Video) -> Path:
        """Where the mp4 is."""
        return self.root / video.path

    def latents_path(self, video: Video) -> Path | None:
        """Where the shard with the latents is, if they were kept; the tensor's name is `video.latents_key`."""
        return None if video.latents is None else self.root / video.latents

    def add_prompts(self, texts: Iterable[str], split: str) -> list[Prompt]:
        """Add the texts that the split does not have yet.

        Returns:
            The prompts of these texts, old and new, in the order given, each once.
        Raises:
            ReelignError: a text is empty.
        """
        unique = list(dict.fromkeys(texts))
        for number, text in enumerate(unique, start=1):
            if not text.strip():
                raise ReelignError(f"prompt {number} of split {split!r} is empty", "Remove it or write something.")
        with self._transaction() as session:
            # Writing first takes the write lock at once: reading first could be overtaken and refused.
            for rows in _chunks([{"text": text, "split": split} for text in unique]):
                session.execute(insert(Prompt).values(rows).on_conflict_do_nothing())
            found = {prompt.text: prompt for prompt in session.scalars(select(Prompt).where(Prompt.split == split))}
        return [found[text] for text in unique]

    def prompts(self, split: str | None = None) -> list[Prompt]:
        """Prompts in the order they were added, of one split or of all."""
        query = select(Prompt).order_by(Prompt.id)
        if split is not None:
            query = query.where(Prompt.split == split)
        with self._transaction() as session:
            return list(session.scalars(query))

    def add_videos(self, videos: Iterable[Video]) -> None:
        """Record videos, all or none; one whose id is known already stays as it was first recorded.

        Write the files before: a record promises that its files are there.

        Raises:
            ReelignError: a video belongs to no known prompt.
        """
        columns = [column.key for column in Video.__mapper__.column_attrs]
        rows = [{name: getattr(video, name) for name in columns} for video in videos]
        with self._transaction() as session:
            for chunk in _chunks(rows):
                session.execute(insert(Video).values(chunk).on_conflict_do_nothing(index_elements=["id"]))

    def videos(self, split: str | None = None, adapter: str | None = None, prompt_id: int | None = None) -> list[Video]:
        """Videos ordered by prompt, adapter, place in the group, then seed and id.

        Args:
            split, prompt_id: only of these prompts.
            adapter: only made with this adapter; '' for the generator alone, None for all.
        """
        query = select(Video).join(Prompt).order_by(Prompt.id, Video.adapter, Video.index, Video.seed, Video.id)
        if split is not None:
            query = query.where(Prompt.split == split)
        if adapter is not None:
            query = query.where(Video.adapter == adapter)
        if prompt_id is not None:
            query = query.where(Video.prompt_id == prompt_id)
        with self._transaction() as session:
            return list(session.scalars(query))

    def groups(self, split: str | None = None, adapter: str | None = None) -> list[Group]:
        """The candidates of each prompt that has any, in the order of the prompts."""
        prompts = {prompt.id: prompt for prompt in self.prompts(split)}
        members: dict[int, list[Video]] = {}
        for video in self.videos(split, adapter):
            members.setdefault(video.prompt_id, []).append(video)
        # A prompt added between the two reads would be unknown here; its group comes with the next call.
        return [Group(prompt=prompts[key], videos=tuple(videos)) for key, videos in members.items() if key in prompts]

    def add_judgements(self, judgements: Iterable[Judgement]) -> None:
        """Append judgements, all or none.

        Raises:
            ReelignError: a verdict or side that does not exist, a video against itself, or an unknown video.
        """
        judgements = list(judgements)
        for judgement in judgements:
            _check_judgement(judgement)
        with self._transaction() as session:
            session.add_all(judgements)

    def judgements(self, dimension: str | None = None, judge: str | None = None) -> list[Judgement]:
        """Judgements in the order they were made, of one dimension or judge or of all."""
        query = select(Judgement).order_by(Judgement.id)
        if dimension is not None:
            query = query.where(Judgement.dimension == dimension)
        if judge is not None:
            query = query.where(Judgement.judge == judge)
        with self._transaction() as session:
            return list(session.scalars(query))

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        """A session that commits at the end of the block; its objects stay usable after it."""
        path = self.root / DATABASE
        try:
            with _readable(path), Session(self._engine, expire_on_commit=False) as session, session.begin():
                yield session
        except IntegrityError as error:
            raise ReelignError(
                f"{path} refuses a record: {error.orig}",
                "A video needs a known prompt and a judgement needs known videos: add those first.",
            ) from error


def _engine(path: Path) -> Engine:
    # No pool: a connection that outlives its call would be inherited by forked workers, which SQLite forbids.
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")  # with WAL: a killed process loses nothing
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    return engine


def _make_database(path: Path, model: str) -> None:
    """Made beside and renamed, so that a half-made database never has the name of a whole one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        engine = create_engine(f"sqlite:///{beside}", poolclass=NullPool)
        Base.metadata.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add(Meta(key="schema_version", value=str(SCHEMA_VERSION)))
            session.add(Meta(key="model", value=model))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what SQLite says of a damaged, locked or full database into an error a user can act on."""
    try:
        yield
    except IntegrityError:
        raise
    except DatabaseError as error:
        raise ReelignError(
            f"{path}: {error.orig}",
            "Check that the file is a reelign database, may be written, and that the disk has room.",
        ) from error


def _check_version(path: Path, version: str) -> None:
    if not version.isdigit():
        raise ReelignError(f"{path} does not say its schema version", "Use a workspace made by reelign init.")
    if int(version) > SCHEMA_VERSION:
        raise ReelignError(
            f"{path} was made by a newer reelign (schema {version}, this one knows {SCHEMA_VERSION})",
            "pip install -U reelign",
        )


def _check_judgement(judgement: Judgement) -> None:
    if judgement.verdict not in VERDICTS:
        raise ReelignError(
            f"verdict {judgement.verdict!r} of judge {judgement.judge!r} on {judgement.dimension!r} does not exist",
            f"A verdict is one of {', '.join(VERDICTS)}.",
        )
    if judgement.shown_left not in ("a", "b"):
        raise ReelignError(
            f"shown_left must be 'a' or 'b', got {judgement.shown_left!r}", "Name the video on the left."
        )
    if judgement.video_a == judgement.video_b:
        raise ReelignError(f"video {judgement.video_a} is compared with itself", "Judge two different videos.")


def _chunks(rows: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    for start in range(0, len(rows), ROWS_PER_INSERT):
        yield rows[start : start + ROWS_PER_INSERT]
