"""Tasks, scores, judges, every kind of judgement, corrections; judgements can only be added."""

import uuid

import sqlalchemy as sa
from alembic import op

from reelign.records.schema import content_key

revision = "2"
down_revision = "1"

# The first workspaces were made before constraints had names.
NAMES = {"uq": "uq_%(table_name)s_%(column_0_name)s", "fk": "fk_%(table_name)s_%(column_0_name)s"}


def upgrade() -> None:
    op.execute("DELETE FROM meta WHERE key = 'schema_version'")  # alembic_version says it from here on
    with op.batch_alter_table("meta") as meta:
        meta.alter_column("value", existing_type=sa.String(), nullable=False)
    with op.batch_alter_table("videos") as videos:
        videos.add_column(sa.Column("content_hash", sa.String()))
        videos.alter_column("seed", existing_type=sa.Integer(), type_=sa.BigInteger())
    _key_prompts()
    _tasks_scores_judges()
    _widen_judgements()
    _append_only()


def _key_prompts() -> None:
    op.add_column("prompts", sa.Column("key", sa.String()))
    prompts = sa.table("prompts", sa.column("id"), sa.column("text"), sa.column("split"), sa.column("key"))
    rows = op.get_bind().execute(sa.select(prompts.c.id, prompts.c.text, prompts.c.split)).all()
    for row in rows:
        key = content_key(row.text, row.split)
        op.get_bind().execute(sa.update(prompts).where(prompts.c.id == row.id).values(key=key))
    with op.batch_alter_table("prompts", naming_convention=NAMES) as batch:
        batch.alter_column("key", existing_type=sa.String(), nullable=False)
        batch.drop_constraint("uq_prompts_text", type_="unique")
        batch.create_unique_constraint("uq_prompts_key", ["key"])


def _tasks_scores_judges() -> None:
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("videos", sa.JSON(), nullable=False),
        sa.Column("dimensions", sa.JSON(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("gold", sa.JSON()),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "judges",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("excluded", sa.Boolean(), nullable=False),
    )
    op.create_table(
        "scores",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("video", sa.String(), sa.ForeignKey("videos.id"), nullable=False),
        sa.Column("reward", sa.String(), nullable=False),
        sa.Column("reward_version", sa.String(), nullable=False),
        sa.Column("dimension", sa.String(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("video", "reward", "reward_version", "dimension", name="uq_scores_video"),
    )


def _widen_judgements() -> None:
    new = [sa.Column(name, sa.String()) for name in ("key", "strength", "task", "supersedes")]
    new += [sa.Column("candidates", sa.JSON()), sa.Column("defects", sa.JSON()), sa.Column("duration_s", sa.Double())]
    for column in new:
        op.add_column("judgements", column)
    ids = op.get_bind().execute(sa.text("SELECT id FROM judgements")).scalars().all()
    if ids:
        rows = [{"place": each, "key": uuid.uuid4().hex} for each in ids]
        op.get_bind().execute(sa.text("UPDATE judgements SET key = :key WHERE id = :place"), rows)
    with op.batch_alter_table("judgements", naming_convention=NAMES) as batch:
        batch.alter_column("key", existing_type=sa.String(), nullable=False)
        batch.alter_column("video_b", existing_type=sa.String(), nullable=True)
        batch.create_unique_constraint("uq_judgements_key", ["key"])
        batch.create_unique_constraint("uq_judgements_supersedes", ["supersedes"])
        batch.create_foreign_key("fk_judgements_task", "tasks", ["task"], ["id"])
        batch.create_foreign_key("fk_judgements_supersedes", "judgements", ["supersedes"], ["key"])
    op.create_index("ix_judgements_task", "judgements", ["task"])
    op.create_index("ix_judgements_judge", "judgements", ["judge", "id"])


def _append_only() -> None:
    if op.get_bind().dialect.name == "sqlite":
        for what in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER judgements_no_{what.lower()} BEFORE {what} ON judgements "
                "BEGIN SELECT RAISE(ABORT, 'judgements can only be added'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION judgements_only_added() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'judgements can only be added' USING ERRCODE = 'check_violation'; END $$"
    )
    op.execute(
        "CREATE TRIGGER judgements_only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON judgements "
        "FOR EACH STATEMENT EXECUTE FUNCTION judgements_only_added()"
    )
