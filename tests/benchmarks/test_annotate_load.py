"""Many judges at once with real HTTP clients: nothing is lost, nothing doubled, not even when the server is killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from benchmark_scripts import benchmark


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with benchmark("annotate_load") as (found,):
        yield found


def test_a_killed_server_loses_nothing_that_it_acknowledged(script: ModuleType, tmp_path: Path) -> None:
    workspace = script.make_workspace(tmp_path / "w", 160)
    tally, _ = script.drive(workspace, judges=8, answers=160, think_s=0.0, kill=True)
    assert script.faults(workspace, tally) == []
    assert len(tally.acknowledged) == len(workspace.judgements()) == 160


@pytest.mark.alone
@pytest.mark.slow
def test_fifty_judges_at_once(script: ModuleType, tmp_path: Path) -> None:
    workspace = script.make_workspace(tmp_path / "w", 10_000)
    tally, _ = script.drive(workspace, judges=50, answers=10_000, think_s=1.0, kill=False)
    assert script.faults(workspace, tally) == []
    assert len(tally.acknowledged) == len(workspace.judgements()) == 10_000
    assert np.quantile(tally.seconds, 0.95) <= 0.150
