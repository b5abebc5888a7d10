"""Workspaces with something to judge: on both databases without files, and with real videos for the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from annotate.projects import fill
from records.conftest import new_workspace as new_workspace
from records.conftest import postgres as postgres
from records.conftest import workspace as workspace
from reelign.records import Workspace


@pytest.fixture
def filled(tmp_path: Path) -> Workspace:
    """Four prompts with three candidates each: twelve pairs."""
    return fill(Workspace.create(tmp_path / "w", model="tiny/wan"), prompts=4, candidates=3)


@pytest.fixture
def everywhere(workspace: Workspace) -> Workspace:
    """The same, on SQLite and on PostgreSQL."""
    return fill(workspace, prompts=4, candidates=3)
