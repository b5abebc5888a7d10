"""Run by Alembic: the steps go over the connection that `records.database` opened and commits."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], render_as_batch=True)
context.run_migrations()
