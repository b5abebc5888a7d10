"""The watch in the report."""

from __future__ import annotations

import base64
import io
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from evaluation.watched_runs import watched_run
from reelign.errors import ReelignError
from reelign.evaluation import Report
from reelign.evaluation.report import render
from reelign.evaluation.watch_panel import read_watch


def test_a_run_without_a_watch_has_no_panel(tmp_path: Path, report: Report) -> None:
    assert read_watch(tmp_path) is None
    assert 'id="watch"' not in render(report)


def test_a_hacked_run_shows_when_and_what(tmp_path: Path, report: Report) -> None:
    panel = read_watch(watched_run(tmp_path, hacked=True))
    assert panel is not None
    assert (panel.looks, panel.best) == (6, 60)
    assert [step for step, _ in panel.alarms] == [80, 100, 120]
    assert "at step 80" in panel.warning
    assert "2 more looks" in panel.warning
    page = render(replace(report, watch=panel))
    assert page.count("against step 60, the best for what training does not see") >= 2
    assert "The run was ended:" in page
    # Names come from users.
    assert "<b>judge</b>" not in page
    assert "$x$" in page


def test_a_sound_run_says_so(tmp_path: Path, report: Report) -> None:
    panel = read_watch(watched_run(tmp_path, hacked=False))
    assert panel is not None
    assert (panel.alarms, panel.warning, panel.stopped) == ([], "", "")
    assert "No alarm." in render(replace(report, watch=panel))


def test_drawings_are_whole_and_marked(tmp_path: Path) -> None:
    panel = read_watch(watched_run(tmp_path, hacked=True))
    assert panel is not None
    curves = [*panel.rewards, *panel.measures]
    assert [curve.name for curve in curves] == ["watch-reward-0", "watch-measure-0", "watch-measure-1"]
    for curve in curves:
        ElementTree.fromstring(curve.svg)
        assert "#01020" not in curve.svg
        assert curve.svg.count("stroke: var(--bad)") == 3  # an alarm a line


def test_pictures_are_of_the_best_and_the_last_look_and_not_large(tmp_path: Path) -> None:
    panel = read_watch(watched_run(tmp_path, hacked=True))
    assert panel is not None
    assert [title for title, _ in panel.sheets] == ["Step 60, best look", "Step 120, last look"]
    for _, data in panel.sheets:
        assert Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).size == (900, 300)


def test_a_broken_look_is_named(tmp_path: Path) -> None:
    folder = watched_run(tmp_path, hacked=False)
    (folder / "watch" / "step-000040.json").write_text("{")
    with pytest.raises(ReelignError, match=r"step-000040\.json cannot be read"):
        read_watch(folder)
