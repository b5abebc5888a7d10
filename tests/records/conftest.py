"""Workspaces on both databases: every test that takes `workspace` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from records.servers import Postgres, running_postgres
from reelign.records import Workspace

NewWorkspace = Callable[[], Workspace]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def new_workspace(request: pytest.FixtureRequest, tmp_path: Path) -> NewWorkspace:
    """Makes empty workspaces, each with a database of its own."""
    count = 0

    def make() -> Workspace:
        nonlocal count
        count += 1
        database = None
        if request.param == "postgresql":
            database = request.getfixturevalue("postgres").new_database()
        return Workspace.create(tmp_path / f"w{count}", model="tiny/wan", database=database)

    return make


@pytest.fixture
def workspace(new_workspace: NewWorkspace) -> Workspace:
    return new_workspace()
