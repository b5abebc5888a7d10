"""What a workspace remembers, as tables. Objects that left a session are plain values: every column is loaded."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, ForeignKey, Index, Integer, MetaData, UniqueConstraint
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column
from sqlalchemy.types import TypeDecorator

from reelign.records.answers import Verdict as Verdict

SCHEMA_VERSION = 4
"""Of these tables: the last file in migrations/versions makes them. A workspace of a higher one is refused."""

_Number = BigInteger().with_variant(Integer, "sqlite")
"""64 bits everywhere; SQLite counts ids by itself only where they are called INTEGER."""
_Json = JSON(none_as_null=True)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes, in UTC; SQLite forgets the zone and would give them back naive."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and (value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))


def _now() -> datetime:
    return datetime.now(UTC)


def _new_key() -> str:
    return uuid.uuid4().hex


class Base(MappedAsDataclass, DeclarativeBase):
    """Tables whose rows are made with keywords and compared by identity."""

    # Without names of their own, SQLite's constraints could not be named in a migration.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Meta(Base, kw_only=True, eq=False):
    """Facts about the workspace itself: `model`."""

    __tablename__ = "meta"

    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


def _prompt_key(context: DefaultExecutionContext) -> str:
    row: dict[str, Any] = context.get_current_parameters()  # type: ignore[no-untyped-call]
    return prompt_key(row["text"], row["split"], row.get("image"))


def prompt_key(text: str, split: str, image: str | None) -> str:
    """A prompt's key; that of a text alone is of text and split."""
    return content_key(text, split) if image is None else content_key(text, split, PurePosixPath(image).stem)


class Prompt(Base, kw_only=True, eq=False):
    """A text to make videos of, and the image they go on from where there is one.

    The same text may stand in several splits, and beside several images.
    """

    __tablename__ = "prompts"

    id: Mapped[int] = mapped_column(_Number, primary_key=True, init=False)
    key: Mapped[str] = mapped_column(unique=True, init=False, insert_default=_prompt_key)
    """Of text, split and image; PostgreSQL cannot index a long text itself."""
    text: Mapped[str]
    split: Mapped[str] = mapped_column(index=True)
    """'train', 'held_out', or the user's own."""
    image: Mapped[str | None] = mapped_column(default=None)
    """The image's file, relative to the workspace, with forward slashes, and named by the hash of its content."""


class Video(Base, kw_only=True, eq=False):
    """One video, its file, and all that is needed to make it again."""

    __tablename__ = "videos"

    id: Mapped[str] = mapped_column(primary_key=True)
    """A key of how it was made (`content_key`), so that making it again is recognised."""
    prompt_id: Mapped[int] = mapped_column(_Number, ForeignKey("prompts.id"), index=True)
    generator: Mapped[str]
    """The model's name and the hash of its weights."""
    adapter: Mapped[str] = mapped_column(default="")
    """The adapter's name; '' for the generator alone."""
    seed: Mapped[int] = mapped_column(BigInteger)
    index: Mapped[int] = mapped_column(default=0)
    """Place in its group, from 0."""
    settings: Mapped[dict[str, Any]] = mapped_column(JSON, default_factory=dict)
    """Steps, guidance scale and whatever else made it."""
    path: Mapped[str]
    """The mp4, relative to the workspace, with forward slashes."""
    content_hash: Mapped[str | None] = mapped_column(default=None)
    """SHA-256 of the mp4 as it was recorded, in hex; None where there was no file."""
    latents: Mapped[str | None] = mapped_column(default=None)
    """The safetensors shard with its latents, relative to the workspace."""
    latents_key: Mapped[str | None] = mapped_column(default=None)
    """The tensor's name in the shard."""
    fps: Mapped[float]
    num_frames: Mapped[int]
    height: Mapped[int]
    width: Mapped[int]
    created: Mapped[datetime] = mapped_column(UtcDateTime, default_factory=_now)


class Task(Base, kw_only=True, eq=False):
    """Something to ask judges about: which videos, on which dimensions, how many judges are wanted."""

    __tablename__ = "tasks"

    id: Mapped[str] = mapped_column(primary_key=True)
    """A key of what is asked (`content_key`), so that asking again is recognised."""
    kind: Mapped[str] = mapped_column(default="pairwise")
    """A `Kind`."""
    videos: Mapped[list[str]] = mapped_column(JSON)
    """Two for a pair, one for a grade, N for the best of N."""
    dimensions: Mapped[list[str]] = mapped_column(JSON)
    wanted: Mapped[int] = mapped_column(default=3)
    """How many judges."""
    gold: Mapped[dict[str, str] | None] = mapped_column(_Json, default=None)
    """The right verdict by dimension, where it is known: of a pair with a for the first video."""
    created: Mapped[datetime] = mapped_column(UtcDateTime, default_factory=_now)


class Judgement(Base, kw_only=True, eq=False):
    """One verdict of one judge on one dimension. The database refuses to change or delete it.

    A correction is a new row that supersedes the old one; so is taking a judgement back, with the verdict 'withdrawn'.
    """

    __tablename__ = "judgements"
    __table_args__ = (Index("ix_judgements_judge", "judge", "id"),)

    id: Mapped[int] = mapped_column(_Number, primary_key=True, init=False)
    key: Mapped[str] = mapped_column(unique=True, default_factory=_new_key)
    """Made where the judgement is made: handed in twice, by a nervous finger or a file, it is recorded once."""
    kind: Mapped[str] = mapped_column(default="pairwise")
    """A `Kind`."""
    video_a: Mapped[str] = mapped_column(ForeignKey("videos.id"), index=True)
    """The first video, or the only one."""
    video_b: Mapped[str | None] = mapped_column(ForeignKey("videos.id"), default=None, index=True)
    """The second video of a pair."""
    candidates: Mapped[list[str] | None] = mapped_column(_Json, default=None)
    """The N videos of a best-of-N, in the order shown; `video_a` is the first."""
    dimension: Mapped[str] = mapped_column(index=True)
    verdict: Mapped[str]
    """What the kind allows (`answers.ANSWERS`)."""
    strength: Mapped[str | None] = mapped_column(default=None)
    """'clearly' or 'slightly' better; None where the judge was not asked."""
    judge: Mapped[str]
    judge_version: Mapped[str]
    shown_left: Mapped[str] = mapped_column(default="a")
    """Which of a pair stood on the left, 'a' or 'b'; a judge that takes an ordered pair sees a first."""
    reason: Mapped[str | None] = mapped_column(default=None)
    defects: Mapped[list[dict[str, Any]] | None] = mapped_column(_Json, default=None)
    """Tagged defects, each a `Defect`: what, in which video, from when to when."""
    duration_s: Mapped[float | None] = mapped_column(default=None)
    """How long the judge took."""
    task: Mapped[str | None] = mapped_column(ForeignKey("tasks.id"), default=None, index=True)
    supersedes: Mapped[str | None] = mapped_column(ForeignKey("judgements.key"), default=None, unique=True)
    """The key of the judgement that this one corrects or takes back; each can be superseded once."""
    created: Mapped[datetime] = mapped_column(UtcDateTime, default_factory=_now)


class JudgeEntry(Base, kw_only=True, eq=False):
    """What is known of a judge beside the judgements."""

    __tablename__ = "judges"

    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(default="person")
    """'person', 'critic' or 'reward'."""
    excluded: Mapped[bool] = mapped_column(default=False)
    """The judgements stay, and count in no vote."""


class Score(Base, kw_only=True, eq=False):
    """What a reward model says of a video on a dimension; higher is better."""

    __tablename__ = "scores"
    __table_args__ = (UniqueConstraint("video", "reward", "reward_version", "dimension"),)

    id: Mapped[int] = mapped_column(_Number, primary_key=True, init=False)
    video: Mapped[str] = mapped_column(ForeignKey("videos.id"))
    reward: Mapped[str]
    reward_version: Mapped[str]
    dimension: Mapped[str]
    value: Mapped[float]
    created: Mapped[datetime] = mapped_column(UtcDateTime, default_factory=_now)


def content_key(*parts: object) -> str:
    """A short key (20 hex digits, 80 bits) of anything that JSON holds; the same on every machine."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]
