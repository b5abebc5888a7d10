"""Prompts, videos, and judgements of pairs."""

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    op.create_table("meta", sa.Column("key", sa.String(), primary_key=True), sa.Column("value", sa.String()))
    op.create_table(
        "prompts",
        sa.Column("id", _number(), primary_key=True),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.UniqueConstraint("text", "split", name="uq_prompts_text"),
    )
    op.create_index("ix_prompts_split", "prompts", ["split"])
    op.create_table(
        "videos",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("prompt_id", _number(), sa.ForeignKey("prompts.id"), nullable=False),
        sa.Column("generator", sa.String(), nullable=False),
        sa.Column("adapter", sa.String(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("latents", sa.String()),
        sa.Column("latents_key", sa.String()),
        sa.Column("fps", sa.Double(), nullable=False),
        sa.Column("num_frames", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("ix_videos_prompt_id", "videos", ["prompt_id"])
    op.create_table(
        "judgements",
        sa.Column("id", _number(), primary_key=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("video_a", sa.String(), sa.ForeignKey("videos.id"), nullable=False),
        sa.Column("video_b", sa.String(), sa.ForeignKey("videos.id"), nullable=False),
        sa.Column("dimension", sa.String(), nullable=False),
        sa.Column("verdict", sa.String(), nullable=False),
        sa.Column("judge", sa.String(), nullable=False),
        sa.Column("judge_version", sa.String(), nullable=False),
        sa.Column("shown_left", sa.String(), nullable=False),
        sa.Column("reason", sa.String()),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    )
    for column in ("video_a", "video_b", "dimension"):
        op.create_index(f"ix_judgements_{column}", "judgements", [column])


def _number() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")
