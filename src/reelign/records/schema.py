"""What a workspace remembers, as tables. Objects that left a session are plain values: every column is loaded."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import JSON, DateTime, Dialect, ForeignKey, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column
from sqlalchemy.types import TypeDecorator

SCHEMA_VERSION = 1
"""Raised with every change of the tables; a workspace of a higher one is refused."""

Verdict = Literal["a", "b", "tie"]
"""The outcome of one comparison on one dimension: the better video, or neither."""

VERDICTS: tuple[Verdict, ...] = ("a", "b", "tie")


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes, in UTC; SQLite forgets the zone and would give them back naive."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and (value if value.tzinfo else value.replace(tzinfo=UTC))


def _now() -> datetime:
    return datetime.now(UTC)


class Base(MappedAsDataclass, DeclarativeBase):
    """Tables whose rows are made with keywords and compared by identity."""


class Meta(Base, kw_only=True, eq=False):
    """Facts about the workspace itself: `schema_version`, `model`."""

    __tablename__ = "meta"

    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class Prompt(Base, kw_only=True, eq=False):
    """A text to make videos of. The same text may stand in several splits."""

    __tablename__ = "prompts"
    __table_args__ = (UniqueConstraint("text", "split"),)

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    text: Mapped[str]
    split: Mapped[str] = mapped_column(index=True)
    """'train', 'held_out', or the user's own."""


class Video(Base, kw_only=True, eq=False):
    """One video, its file, and all that is needed to make it again."""

    __tablename__ = "videos"

    id: Mapped[str] = mapped_column(primary_key=True)
    """A key of how it was made (`content_key`), so that making it again is recognised."""
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompts.id"), index=True)
    generator: Mapped[str]
    """The model's name and the hash of its weights."""
    adapter: Mapped[str] = mapped_column(default="")
    """The adapter's name; '' for the generator alone."""
    seed: Mapped[int]
    index: Mapped[int] = mapped_column(default=0)
    """Place in its group, from 0."""
    settings: Mapped[dict[str, Any]] = mapped_column(JSON, default_factory=dict)
    """Steps, guidance scale and whatever else made it."""
    path: Mapped[str]
    """The mp4, relative to the workspace, with forward slashes."""
    latents: Mapped[str | None] = mapped_column(default=None)
    """The safetensors shard with its latents, relative to the workspace."""
    latents_key: Mapped[str | None] = mapped_column(default=None)
    """The tensor's name in the shard."""
    fps: Mapped[float]
    num_frames: Mapped[int]
    height: Mapped[int]
    width: Mapped[int]
    created: Mapped[datetime] = mapped_column(UtcDateTime, default_factory=_now)


class Judgement(Base, kw_only=True, eq=False):
    """One verdict of one judge on one dimension. Never changed: a correction is a new row."""

    __tablename__ = "judgements"

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    kind: Mapped[str] = mapped_column(default="pairwise")
    video_a: Mapped[str] = mapped_column(ForeignKey("videos.id"), index=True)
    video_b: Mapped[str] = mapped_column(ForeignKey("videos.id"), index=True)
    dimension: Mapped[str] = mapped_column(index=True)
    verdict: Mapped[str]
    """A `Verdict`."""
    judge: Mapped[str]
    judge_version: Mapped[str]
    shown_left: Mapped[str] = mapped_column(default="a")
    """Which of the two stood on the left, 'a' or 'b'; a judge that takes an ordered pair sees a first."""
    reason: Mapped[str | None] = mapped_column(default=None)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default_factory=_now)


def content_key(*parts: object) -> str:
    """A short key (20 hex digits, 80 bits) of anything that JSON holds; the same on every machine."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]
