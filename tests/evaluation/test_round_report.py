"""The page of rounds: its drawing, worked out by hand, and what it says."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from reelign.evaluation import Interval, ReportSample
from reelign.evaluation.round_report import EDGE, HEIGHT, WIDTH, RoundLine, RoundsReport, marks, write_rounds

LINES = [
    RoundLine(name="base", gains={"selection": Interval(0, 0, 0)}, means={"selection": 0.5}),
    RoundLine(name="round 1", gains={"selection": Interval(0.1, 0.0, 0.2)}, means={"selection": 0.6}, what="dpo, <60>"),
    RoundLine(name="round 2", gains={"selection": Interval(-0.1, -0.4, 0.1)}, means={"selection": math.nan}, failed=3),
]


def test_gains_stand_around_the_middle_on_one_scale() -> None:
    found = marks(LINES, "selection")
    half = HEIGHT / 2 - EDGE
    assert [mark.x for mark in found] == [EDGE, WIDTH / 2, WIDTH - EDGE]
    assert [mark.y for mark in found] == [HEIGHT / 2, HEIGHT / 2 - half / 4, HEIGHT / 2 + half / 4]
    assert found[2].low == HEIGHT - EDGE  # the longest way from zero, downwards


def test_the_page_names_the_best_and_asks_nothing_of_a_network(tmp_path: Path) -> None:
    video = torch.rand(5, 3, 16, 16)
    sample = ReportSample(
        prompt="a <red> square", seed=1, base=video, aligned=video, base_scores={"VQ": 0.5}, aligned_scores={"VQ": 0.6}
    )
    report = RoundsReport(
        title="iterate: 2 rounds",
        model="tiny",
        headline="The best is round 1.",
        judges={"selection": "(panel) chooses the best round"},
        lines=LINES,
        best=1,
        samples=[sample],
        config={"settings": {"rounds": 2}},
    )
    write_rounds(tmp_path / "rounds.html", report)
    text = (tmp_path / "rounds.html").read_text()
    told = ("round 1 (best)", "+0.100", "−0.100", "failed", "dpo, &lt;60&gt;", "a &lt;red&gt; square", "rounds: 2")
    assert [each for each in told if each not in text] == []
    assert "http" not in text.replace("http-equiv", "")
    assert text.count("<circle") == 3
