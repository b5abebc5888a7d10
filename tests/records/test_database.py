"""Making a database, opening one of another version, and moving to a server."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text, update
from sqlalchemy.exc import DatabaseError

from records.servers import Postgres
from records.test_workspace import judgement, video
from reelign.errors import ReelignError
from reelign.records import Workspace, database
from reelign.records.database import create_database, open_engine, sqlite_url
from reelign.records.schema import SCHEMA_VERSION, Base, Judgement

FIRST = Path(__file__).parent / "first_workspace.sql"
"""A workspace as the first reelign made it, with two prompts, three videos and two judgements."""


@pytest.fixture
def first(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "reelign.db")) as connection:
        connection.executescript(FIRST.read_text())
        connection.execute("PRAGMA journal_mode = WAL")
    return tmp_path


def test_the_migrations_make_the_tables_of_the_code(workspace: Workspace) -> None:
    with open_engine(workspace.url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_database_made_a_moment_before_is_not_erased(tmp_path: Path) -> None:
    first = Workspace.create(tmp_path, model="tiny/wan")
    first.add_prompts(["a red square"], "train")
    # What another process does that looked before there was a database.
    create_database(sqlite_url(tmp_path / "reelign.db"), "other/model")
    again = Workspace.open(tmp_path)
    assert (again.model, [each.text for each in again.prompts()]) == ("tiny/wan", ["a red square"])
    assert [path.name for path in tmp_path.glob(".*.tmp")] == []


def test_the_version_of_the_code_is_the_last_migration() -> None:
    folder = Path(database.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_heads() == [str(SCHEMA_VERSION)]


def test_a_workspace_of_the_first_version_goes_on(first: Path) -> None:
    workspace = Workspace.open(first)
    assert workspace.model == "tiny/wan"
    assert [each.text for each in workspace.prompts("train")] == ["a red square", "a blue disc"]
    assert [(each.id, each.settings, each.content_hash) for each in workspace.videos()] == [
        ("u", {"steps": 10}, None),
        ("v0", {"steps": 10}, None),
        ("v1", {"steps": 10}, None),
    ]
    assert [(each.judge, each.verdict, each.reason) for each in workspace.judgements()] == [
        ("ann", "a", "sharper"),
        ("bob", "tie", None),
    ]
    assert len({each.key for each in workspace.judgements()}) == 2
    with open_engine(workspace.url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        assert connection.execute(text("PRAGMA foreign_key_check")).all() == []

    (prompt, *_) = workspace.add_prompts(["a red square"], "train")
    assert prompt.id == 1, "the old prompt is known again"
    workspace.add_judgements([judgement("v0", "v1", "b", judge="cem")])
    workspace.withdraw(workspace.judgements()[0])
    assert [each.judge for each in workspace.judgements()] == ["bob", "cem"]


def test_the_file_is_copied_before_it_is_changed(first: Path) -> None:
    before = dump(first / "reelign.db")
    Workspace.open(first)
    copy = first / "reelign.db.schema-1"
    assert dump(copy) == before
    assert dump(first / "reelign.db") != before

    shutil.copy(copy, first / "reelign.db")
    assert len(Workspace.open(first).judgements()) == 2, "and it can take the file's place again"


def test_a_migration_that_fails_changes_nothing(first: Path) -> None:
    with closing(sqlite3.connect(first / "reelign.db")) as connection:
        connection.execute("CREATE TABLE scores (in_the_way TEXT)")
    before = dump(first / "reelign.db")
    with pytest.raises(ReelignError, match="scores already exists"):
        Workspace.open(first)
    assert dump(first / "reelign.db") == before


OPEN = "import sys; from reelign.records import Workspace; print(len(Workspace.open(sys.argv[1]).judgements()))"


def test_several_processes_open_an_old_workspace_at_once(first: Path) -> None:
    openers = [
        subprocess.Popen([sys.executable, "-c", OPEN, str(first)], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [opener.communicate()[0].strip() for opener in openers] == ["2", "2", "2"]


def test_a_newer_workspace_says_how_to_read_it(workspace: Workspace) -> None:
    with open_engine(workspace.url).begin() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{SCHEMA_VERSION + 2}'"))
    with pytest.raises(ReelignError) as caught:
        Workspace.open(workspace.root)
    assert f"newer reelign (schema {SCHEMA_VERSION + 2}, this one knows {SCHEMA_VERSION})" in caught.value.what
    assert caught.value.mend == "pip install -U reelign"


def test_the_database_itself_refuses_to_change_a_judgement(workspace: Workspace) -> None:
    (prompt,) = workspace.add_prompts(["a"], "train")
    workspace.add_videos([video("v0", prompt.id), video("v1", prompt.id)])
    workspace.add_judgements([judgement("v0", "v1")])
    for statement in (update(Judgement).values(verdict="b"), text("DELETE FROM judgements")):
        with (
            pytest.raises(DatabaseError, match="judgements can only be added"),
            open_engine(workspace.url).begin() as connection,
        ):
            connection.execute(statement)
    assert [each.verdict for each in workspace.judgements()] == ["a"]


def test_a_team_shares_one_database(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.new_database()
    one = Workspace.create(tmp_path / "one", model="tiny/wan", database=url)
    two = Workspace.create(tmp_path / "two", model="tiny/wan", database=url)
    one.add_prompts(["a red square"], "train")
    assert [each.text for each in two.prompts()] == ["a red square"]
    assert not (tmp_path / "one" / "reelign.db").exists()
    assert len(Workspace.create(tmp_path / "one", model="tiny/wan", database=url).prompts()) == 1
    with pytest.raises(ReelignError, match="has a database of its own"):
        Workspace.create(tmp_path / "one", model="tiny/wan", database=postgres.new_database())
    assert (tmp_path / "one" / "reelign.url").stat().st_mode & 0o077 == 0, "a URL may hold a password"
    with pytest.raises(ReelignError, match=r"made for tiny/wan, not for other"):
        Workspace.create(tmp_path / "three", model="other", database=url)


def test_a_server_that_is_away(tmp_path: Path) -> None:
    with pytest.raises(ReelignError, match="that the server runs") as caught:
        Workspace.create(tmp_path / "w", model="m", database="postgresql://ann:secret@127.0.0.1:1/reels")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["reels", "mysql://host/reels", "postgresql://host"])
def test_other_databases_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ReelignError, match="postgresql://user@host/database"):
        Workspace.create(tmp_path / "w", model="m", database=url)


def test_a_workspace_keeps_its_database(tmp_path: Path) -> None:
    Workspace.create(tmp_path, model="m")
    with pytest.raises(ReelignError, match="has a database of its own"):
        Workspace.create(tmp_path, model="m", database="postgresql://host/reels")


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())
