"""Invited judges, open tasks, and showings of them."""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    op.create_table(
        "invitations",
        sa.Column("judge", sa.String(), primary_key=True),
        sa.Column("token_id", sa.String(), nullable=False),
        sa.Column("token_hash", sa.String()),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("token_id", name="uq_invitations_token_id"),
    )
    op.create_table(
        "openings",
        sa.Column("task", sa.String(), sa.ForeignKey("tasks.id"), primary_key=True),
        sa.Column("gold", sa.Boolean(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("taken", sa.Integer(), nullable=False),
        sa.Column("information", sa.Double(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
    )
    op.create_index("ix_openings_taken", "openings", ["gold", "taken", "place"])
    op.create_index("ix_openings_information", "openings", ["gold", "information", "taken", "place"])
    op.create_table(
        "showings",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("task", sa.String(), sa.ForeignKey("tasks.id"), nullable=False),
        sa.Column("judge", sa.String(), sa.ForeignKey("invitations.judge"), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("videos", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("note", sa.String()),
        sa.Column("changed", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("task", "judge", "turn", name="uq_showings_task"),
    )
    op.create_index("ix_showings_judge", "showings", ["judge", "state", "changed"])
    op.create_index("ix_showings_until", "showings", ["state", "until"])
