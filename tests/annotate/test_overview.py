"""The overview: what stands now, and the figures of the whole record, which a large one has counted beside the page."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from annotate.projects import desk_of, says, work_off
from reelign.annotate.admin_routes import change_judge
from reelign.annotate.counting import Counting
from reelign.annotate.desk import Desk
from reelign.annotate.figures import Figures, count_figures
from reelign.annotate.overview import overview
from reelign.records import Workspace

WITHIN_S = 300


def counted(counting: Counting, last: int) -> Figures:
    """The figures, when they are those of a record of so many judgements."""
    end = time.monotonic() + WITHIN_S
    while (figures := counting.figures()) is None or figures.mark.last < last:
        assert time.monotonic() < end
        time.sleep(0.05)
    return figures


def test_a_large_record_is_counted_beside_and_the_page_says_how_old_its_figures_are(filled: Workspace) -> None:
    desk = desk_of(filled, "ann", "bob", "cem")
    for judge in ("ann", "bob"):
        work_off(desk, judge, "left_clearly" if judge == "ann" else "right_slightly")
    counting = Counting(filled, desk.settings, at_once=0)
    assert counting.figures() is None
    assert overview(filled, desk.settings, None).covered == [0, 0, 12, 0]
    found = counted(counting, 24)
    assert repr(found) == repr(replace(count_figures(filled, desk.settings), at=found.at)), "NaN is not itself"
    assert found.handled["ann", "answered"] == 12

    desk.answer("cem", says(desk, desk.work("cem").questions[0]))
    assert counting.figures() is found, "the latest there are, while newer ones are counted"
    shown = overview(filled, desk.settings, found)
    assert (shown.behind, shown.covered) == (1, [0, 0, 11, 1])
    assert overview(filled, desk.settings, counted(counting, 25)).behind == 0


def test_a_small_record_is_counted_at_once(filled: Workspace) -> None:
    desk = desk_of(filled, "ann")
    counting = Counting(filled, desk.settings)
    for number in (1, 2):
        desk.answer("ann", says(desk, desk.work("ann").questions[0]))
        figures = counting.figures()
        assert figures is not None
        assert figures.mark.last == number


def test_what_is_with_a_judge_covers_nothing_yet(everywhere: Workspace) -> None:
    desk = desk_of(everywhere, "ann", "bob")
    question = desk.work("ann").questions[0]
    assert covered(desk) == [12, 0, 0, 0]
    desk.answer("ann", says(desk, question))
    desk.work("bob")
    assert covered(desk) == [11, 1, 0, 0]
    change_judge(desk, "ann", "exclude")
    assert covered(desk) == [12, 0, 0, 0]


def test_judges_of_single_videos_have_their_statistics_and_disagreements(everywhere: Workspace) -> None:
    desk = desk_of(everywhere, "ann", "bob", "cem", scale="three_level")
    for judge, option in (("ann", "good"), ("bob", "good"), ("cem", "bad")):
        work_off(desk, judge, option)
    figures = count_figures(everywhere, desk.settings)
    assert figures.judges["cem"].agrees.value == 0
    assert {name: each.agrees.of for name, each in figures.judges.items()} == {"ann": 0, "bob": 0, "cem": 12}
    assert len(figures.disagreements) == 12
    assert {(each.vote.verdict, len(each.videos)) for each in figures.disagreements} == {("good", 1)}
    # Of three voices good, good, bad on each of 12 videos: alpha = 1 - 35 * 24 / (2 * 24 * 12).
    assert figures.agreement[0].alpha == pytest.approx(1 - 35 * 24 / (2 * 24 * 12))


def covered(desk: Desk) -> list[int]:
    return overview(desk.workspace, desk.settings, None).covered
