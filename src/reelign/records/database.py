"""The database of a workspace: SQLite in its folder, or PostgreSQL by URL; made, opened and brought up to date."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, insert, inspect, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from reelign.errors import ReelignError
from reelign.files import whole
from reelign.records.schema import SCHEMA_VERSION, Base, Meta

BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for another before it gives up."""
MIGRATION_LOCK = 7_354_461
"""Any number, the same in every reelign: on PostgreSQL the one lock under which tables change."""


def sqlite_url(path: Path) -> URL:
    """The URL of a database file."""
    return URL.create("sqlite", database=str(path))


def postgresql_url(given: str) -> URL:
    """Check and complete a PostgreSQL URL.

    Raises:
        ReelignError: no URL, or one of another database.
    """
    try:
        url = make_url(given)
    except ArgumentError:
        raise ReelignError(f"{given!r} is no database URL", "Write postgresql://user@host/database.") from None
    if url.get_backend_name() != "postgresql" or not url.database:
        raise ReelignError(
            f"a team's database is PostgreSQL, got {url.render_as_string()}",
            "Write postgresql://user@host/database, or leave it out for a file in the workspace.",
        )
    return url.set(drivername="postgresql+psycopg")


def open_engine(url: URL, *, foreign_keys: bool = True) -> Engine:
    """Connections to a database; those with the option `writes` hold SQLite's write lock from their beginning."""
    try:
        # No pool: a connection that outlives its call would be inherited by forked workers, which neither allows.
        engine = create_engine(url, poolclass=NullPool)
    except ModuleNotFoundError as error:
        raise ReelignError(f"PostgreSQL needs the package {error.name}", "pip install 'reelign[postgresql]'") from error
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine, foreign_keys)
    return engine


def create_database(url: URL, model: str) -> None:
    """Make the tables of a new workspace, whole or not at all; those that are there already stay."""
    if url.get_backend_name() != "sqlite":
        _create_tables(url, model)
        return
    path = Path(str(url.database))
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _create_tables(sqlite_url(beside), model)
        # The journal of a file that is about to get another name must be empty.
        with closing(sqlite3.connect(beside)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
        _take_place(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _take_place(beside: Path, path: Path) -> None:
    """Give the file its name, unless another process was faster: a renaming would erase what that one made."""
    try:
        os.link(beside, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not path.exists():
            beside.replace(path)


def bring_up_to_date(url: URL) -> None:
    """Refuse a database of a newer reelign; migrate one of an older, after its file was copied beside.

    Raises:
        ReelignError: a newer one, or none of reelign.
    """
    with readable(url):
        with open_engine(url).connect() as connection:
            version = _version(connection)
        _check_version(url, version)
        if int(version) == SCHEMA_VERSION:
            return
        with _changing_tables(url) as connection:
            version = _version(connection)  # another process may have been faster
            if int(version) < SCHEMA_VERSION:
                if connection.dialect.name == "sqlite":
                    _copy_beside(Path(str(url.database)), version)
                _migrate(connection, version)


def insert_new(session: Session, table: type[Base], rows: Iterable[Mapping[str, Any]], *, by: str) -> None:
    """Insert the rows whose `by` (unique columns, between commas) is not there yet."""
    rows = list(rows)
    if rows:
        dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
        session.execute(dialect.insert(table).on_conflict_do_nothing(index_elements=by.split(",")), rows)


@contextmanager
def readable(url: URL) -> Iterator[None]:
    """Turn what a database says when it is damaged, locked, full or away into an error a user can act on."""
    try:
        yield
    except IntegrityError:
        raise
    except DatabaseError as error:
        if url.get_backend_name() == "sqlite":
            mend = "Check that the file is a reelign database, may be written, and that the disk has room."
        else:
            mend = "Check that the server runs, and that the URL's user may use the database."
        raise ReelignError(f"{name_of(url)}: {error.orig}", mend) from error


def name_of(url: URL) -> str:
    """The database's file, or its URL without the password."""
    return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string()


def _prepare_sqlite(engine: Engine, foreign_keys: bool) -> None:
    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions begin where SQLAlchemy says, not where sqlite3 guesses
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")  # with WAL: a killed process loses nothing
        cursor.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer that reads first takes the lock first, or another could overtake it and it would be refused.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _create_tables(url: URL, model: str) -> None:
    with readable(url), _changing_tables(url) as connection:
        if not inspect(connection).has_table("meta"):
            _migrate(connection, None)
            connection.execute(insert(Meta).values(key="model", value=model))


@contextmanager
def _changing_tables(url: URL) -> Iterator[Connection]:
    """A transaction that no other process changes tables beside."""
    # SQLite changes a table by making it anew; its references would not survive the moment in between.
    engine = open_engine(url, foreign_keys=False).execution_options(writes=True)
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        yield connection


def _migrate(connection: Connection, version: str | None) -> None:
    # Half a second to import, and needed once in a workspace's life.
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "reelign.records:migrations")
    config.set_main_option("path_separator", "os")
    if version == "1" and not inspect(connection).has_table("alembic_version"):
        command.stamp(config, version)  # the first workspaces kept their version elsewhere
    command.upgrade(config, "head")


def _version(connection: Connection) -> str:
    """The version of the tables; '' where none is written down."""
    tables = inspect(connection)
    if tables.has_table("alembic_version"):
        query = "SELECT version_num FROM alembic_version"
    elif tables.has_table("meta"):
        query = "SELECT value FROM meta WHERE key = 'schema_version'"
    else:
        return ""
    return connection.execute(text(query)).scalar() or ""


def _check_version(url: URL, version: str) -> None:
    if not version.isdigit():
        raise ReelignError(f"{name_of(url)} does not say its schema version", "Use a workspace made by reelign init.")
    if int(version) > SCHEMA_VERSION:
        raise ReelignError(
            f"{name_of(url)} was made by a newer reelign (schema {version}, this one knows {SCHEMA_VERSION})",
            "pip install -U reelign",
        )


def _copy_beside(path: Path, version: str) -> None:
    copy = path.with_name(f"{path.name}.schema-{version}")
    # SQLite's own copy: what still stands in the journal beside the file comes along.
    with whole(copy) as beside, closing(sqlite3.connect(path)) as here, closing(sqlite3.connect(beside)) as there:
        here.backup(there)
        there.execute("PRAGMA journal_mode = DELETE")
