"""Prompts with an image."""

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"


def upgrade() -> None:
    op.add_column("prompts", sa.Column("image", sa.String()))
