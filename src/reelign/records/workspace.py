"""A user's project folder and the database in it."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from sqlalchemy import URL, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from reelign.errors import ReelignError
from reelign.files import whole
from reelign.records import judgement_log
from reelign.records.database import (
    bring_up_to_date,
    create_database,
    insert_new,
    name_of,
    open_engine,
    postgresql_url,
    readable,
    sqlite_url,
)
from reelign.records.image_prompts import ImagePrompt, image_key
from reelign.records.schema import Base, JudgeEntry, Judgement, Meta, Prompt, Score, Task, Video, prompt_key

DATABASE = "reelign.db"
DATABASE_URL = "reelign.url"
"""Where a team's database is; in place of `reelign.db`."""
IMAGES = "images"
"""Where the images of prompts are; made with the first one."""
FOLDERS = ("videos", "latents", "cache", "runs")


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """The candidates of one prompt, in the order of their place in the group."""

    prompt: Prompt
    videos: tuple[Video, ...]


class Workspace:
    """A folder with `reelign.db`, videos/, latents/, cache/ and runs/.

    Every method is one short transaction: what it returned is kept, what was cut off never happened. Several
    processes may read while one writes; writers wait for each other. A team's database is on a PostgreSQL server,
    and the folder holds its URL in `reelign.url`.
    """

    def __init__(self, root: Path, url: URL, model: str) -> None:
        """Use `create` or `open`."""
        self.root = root
        self.url = url
        """Where the database is."""
        self.model = model
        """The generator that the workspace was made for: a folder or a hub id."""
        self._engine = open_engine(url)

    @classmethod
    def create(cls, folder: str | Path, *, model: str, database: str | None = None) -> Workspace:
        """Make a workspace; one that is there already for the same model is opened as it is.

        Args:
            folder: where.
            model: a folder or hub id.
            database: a PostgreSQL URL, for a team on several machines; by default a file in the folder. The URL is
                written into the folder: leave the password to `~/.pgpass` or PGPASSWORD.
        Raises:
            ReelignError: the folder or database holds a workspace of another model, or the folder is a file.
        """
        root = Path(folder).resolve()
        if root.exists() and not root.is_dir():
            raise ReelignError(f"{root} is a file", "Name a folder for the workspace.")
        there = (root / DATABASE).exists() or (root / DATABASE_URL).exists()
        if there and database is not None and _database_of(root, folder) != postgresql_url(database):
            raise ReelignError(f"{root} has a database of its own", "Make another workspace for another database.")
        if not there:
            url = sqlite_url(root / DATABASE) if database is None else postgresql_url(database)
            root.mkdir(parents=True, exist_ok=True)
            create_database(url, model)
            if database is not None:
                _write_private(root / DATABASE_URL, database + "\n")
        workspace = cls.open(root)
        if workspace.model != model:
            raise ReelignError(
                f"the workspace {root} was made for {workspace.model}, not for {model}",
                "Make another workspace for another model, or leave the model out.",
            )
        return workspace

    @classmethod
    def open(cls, folder: str | Path) -> Workspace:
        """Open a workspace; one of an older reelign is brought up to date, after its file was copied beside.

        Raises:
            ReelignError: no such folder, no database in it, a damaged one, or one of a newer reelign.
        """
        root = Path(folder).resolve()
        if not root.is_dir():
            raise ReelignError(f"no workspace at {root}: there is no such folder", f"Make one: reelign init {folder}")
        url = _database_of(root, folder)
        bring_up_to_date(url)
        with readable(url), Session(open_engine(url)) as session:
            model = session.get_one(Meta, "model").value
        for name in FOLDERS:
            (root / name).mkdir(exist_ok=True)
        return cls(root, url, model)

    def video_path(self, video: Video) -> Path:
        """Where the mp4 is."""
        return self.root / video.path

    def latents_path(self, video: Video) -> Path | None:
        """Where the shard with the latents is, if they were kept; the tensor's name is `video.latents_key`."""
        return None if video.latents is None else self.root / video.latents

    def add_prompts(self, texts: Iterable[str], split: str) -> list[Prompt]:
        """Add the prompts that the split does not have yet, and keep their images (`ImagePrompt`) in the workspace.

        Returns:
            The prompts of these texts, old and new, in the order given, each once.
        Raises:
            ReelignError: a text is empty, or an image's file is gone or was changed since it was looked at.
        """
        unique = list(dict.fromkeys(texts))
        _check_texts(unique, split)
        return self.add_prompt_rows([(str(text), self._kept_image(text)) for text in unique], split)

    def add_prompt_rows(self, rows: Sequence[tuple[str, str | None]], split: str) -> list[Prompt]:
        """As `add_prompts`, of each text and its image's file in the workspace, which is not looked at."""
        _check_texts([text for text, _ in rows], split)
        with self._transaction(writes=True) as session:
            new = [{"text": text, "split": split, "image": image} for text, image in rows]
            insert_new(session, Prompt, new, by="key")
            found = {prompt.key: prompt for prompt in session.scalars(select(Prompt).where(Prompt.split == split))}
        return [found[prompt_key(text, split, image)] for text, image in rows]

    def asked(self, prompt: Prompt) -> str:
        """What a model is asked for: the text, as an `ImagePrompt` where there is an image."""
        if prompt.image is None:
            return prompt.text
        return ImagePrompt(prompt.text, self.root / prompt.image, PurePosixPath(prompt.image).stem)

    def asked_in(self, split: str) -> list[str]:
        """What models are asked for in a split, in the order it was added."""
        return [self.asked(prompt) for prompt in self.prompts(split)]

    def _kept_image(self, prompt: str) -> str | None:
        """A prompt's image as a file of the workspace."""
        if not isinstance(prompt, ImagePrompt):
            return None
        name = f"{IMAGES}/{prompt.image_key}{prompt.image.suffix.lower()}"
        if not (self.root / name).exists():
            if image_key(prompt.image) != prompt.image_key:
                raise ReelignError(f"the image {prompt.image} was changed since it was read", "Add the prompts again.")
            (self.root / IMAGES).mkdir(exist_ok=True)
            with whole(self.root / name) as beside:
                shutil.copyfile(prompt.image, beside)
        return name

    def prompts(self, split: str | None = None) -> list[Prompt]:
        """Prompts in the order they were added, of one split or of all."""
        query = select(Prompt).order_by(Prompt.id)
        if split is not None:
            query = query.where(Prompt.split == split)
        with self._transaction() as session:
            return list(session.scalars(query))

    def add_videos(self, videos: Iterable[Video]) -> None:
        """Record videos, all or none; one whose id is known already stays as it was first recorded.

        Write the files before: a record promises that its files are there, and remembers their content.

        Raises:
            ReelignError: a video belongs to no known prompt.
        """
        rows = _rows(Video, videos)
        for row in rows:
            row["content_hash"] = row["content_hash"] or _hash(self.root / row["path"])
        with self._transaction(writes=True) as session:
            insert_new(session, Video, rows, by="id")

    def renew_videos(self, videos: Iterable[Video]) -> None:
        """Record what became of known videos whose files were made again; write the files before."""
        with self._transaction(writes=True) as session:
            for video in videos:
                new = {"content_hash": _hash(self.video_path(video)), "created": video.created}
                new |= {"latents": video.latents, "latents_key": video.latents_key}
                session.execute(update(Video).where(Video.id == video.id).values(**new))

    def has_file(self, video: Video) -> bool:
        """Whether a video's file is there as it was recorded.

        It is read only if it was touched since: a workspace may hold thousands of large ones.
        """
        path = self.video_path(video)
        if not path.is_file() or not path.stat().st_size:
            return False
        if video.content_hash is None or path.stat().st_ctime <= video.created.timestamp():
            return True
        return _hash(path) == video.content_hash

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
        """Append judgements, all or none; one whose key is known already stays as it was first recorded.

        To correct a judgement, add one with `supersedes` set to the old one's key.

        Raises:
            ReelignError: a judgement that no judge can have made (`answers.check_judgement`), an unknown video, or a
                correction of what is no longer there to be corrected.
        """
        with self._transaction(writes=True) as session:
            judgement_log.append(session, judgements)

    def withdraw(self, judgement: Judgement) -> None:
        """Take a judgement back, by one more row."""
        self.add_judgements([judgement_log.withdrawal(judgement)])

    def judgements(
        self, dimension: str | None = None, judge: str | None = None, *, history: bool = False
    ) -> list[Judgement]:
        """Judgements in the order they were made, of one dimension or judge or of all.

        Args:
            dimension, judge: only these.
            history: every row ever added, with those that were superseded, withdrawn, or are an excluded judge's.
        """
        query = select(Judgement).order_by(Judgement.id)
        if not history:
            query = query.where(judgement_log.holds())
        if dimension is not None:
            query = query.where(Judgement.dimension == dimension)
        if judge is not None:
            query = query.where(Judgement.judge == judge)
        with self._transaction() as session:
            return list(session.scalars(query))

    def set_judge(
        self, name: str, *, kind: Literal["person", "critic", "reward"] | None = None, excluded: bool | None = None
    ) -> None:
        """Say what a judge is, or that the judge's judgements shall count or not; what is left out stays."""
        given = {key: value for key, value in (("kind", kind), ("excluded", excluded)) if value is not None}
        with self._transaction(writes=True) as session:
            insert_new(session, JudgeEntry, [{"name": name, "kind": "person", "excluded": False}], by="name")
            if given:
                session.execute(update(JudgeEntry).where(JudgeEntry.name == name).values(**given))

    def judges(self) -> list[JudgeEntry]:
        """All judges by name."""
        with self._transaction() as session:
            return list(session.scalars(select(JudgeEntry).order_by(JudgeEntry.name)))

    def add_tasks(self, tasks: Iterable[Task]) -> None:
        """Record what is to be asked; a task whose id is known already stays as it was first recorded."""
        with self._transaction(writes=True) as session:
            insert_new(session, Task, _rows(Task, tasks), by="id")

    def tasks(self) -> list[Task]:
        """All tasks by id."""
        with self._transaction() as session:
            return list(session.scalars(select(Task).order_by(Task.id)))

    def add_scores(self, scores: Iterable[Score]) -> None:
        """Record scores, all or none; a score of the same video, reward, version and dimension stays as it was.

        Raises:
            ReelignError: a score that is not finite, or of an unknown video.
        """
        rows = _rows(Score, scores)
        for row in rows:
            if not math.isfinite(row["value"]):
                raise ReelignError(
                    f"the {row['dimension']} score of video {row['video']} by {row['reward']} is {row['value']}",
                    "Leave out what the reward could not judge.",
                )
        with self._transaction(writes=True) as session:
            insert_new(session, Score, rows, by="video,reward,reward_version,dimension")

    def scores(self, reward: str | None = None, dimension: str | None = None) -> list[Score]:
        """Scores in the order they were made, of one reward or dimension or of all."""
        query = select(Score).order_by(Score.id)
        if reward is not None:
            query = query.where(Score.reward == reward)
        if dimension is not None:
            query = query.where(Score.dimension == dimension)
        with self._transaction() as session:
            return list(session.scalars(query))

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One transaction to ask questions of one's own in; nothing written by others meanwhile shows in it."""
        with self._transaction() as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction that reads, decides and writes; it is committed at the end of the block, or never was."""
        with self._transaction(writes=True) as session:
            yield session

    @contextmanager
    def _transaction(self, *, writes: bool = False) -> Iterator[Session]:
        """A session that commits at the end of the block; its objects stay usable after it."""
        engine = self._engine.execution_options(writes=True) if writes else self._engine
        try:
            with readable(self.url), Session(engine, expire_on_commit=False) as session, session.begin():
                yield session
        except IntegrityError as error:
            raise ReelignError(
                f"{name_of(self.url)} refuses a record: {error.orig}",
                "A video needs a known prompt and a judgement needs known videos: add those first.",
            ) from error


def _check_texts(texts: Iterable[str], split: str) -> None:
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            raise ReelignError(f"prompt {number} of split {split!r} is empty", "Remove it or write something.")


def _database_of(root: Path, folder: str | Path) -> URL:
    if (root / DATABASE_URL).is_file():
        return postgresql_url((root / DATABASE_URL).read_text(encoding="utf-8").strip())
    if not (root / DATABASE).is_file():
        raise ReelignError(f"{root} is no workspace: it has no {DATABASE}", f"Make one: reelign init {folder}")
    return sqlite_url(root / DATABASE)


def _write_private(path: Path, text: str) -> None:
    """For the owner's eyes alone: a URL may hold a password after all."""
    with whole(path) as beside:
        beside.touch(mode=0o600)
        beside.write_text(text, encoding="utf-8")


def _rows(table: type[Base], objects: Iterable[Base]) -> list[dict[str, Any]]:
    """The values of all columns but those that the database gives."""
    names = [each.name for each in fields(table) if each.init]
    return [{name: getattr(each, name) for name in names} for each in objects]


def _hash(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
