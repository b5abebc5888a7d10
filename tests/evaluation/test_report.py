from __future__ import annotations

import dataclasses
import re

import pytest
import torch

import reelign.evaluation.report as report_module
from reelign.errors import ReelignError
from reelign.evaluation import Report, compare, write_report
from reelign.evaluation.report import headline, render


def test_page_asks_for_nothing_and_escapes_what_users_wrote(report):
    page = render(report)
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(addresses) >= 7
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"@import|url\((?!#)", page)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_page_shows_every_part(report):
    page = render(report)
    assert page.count("<video") == 6
    assert page.count("<figcaption>before") == 3
    for part in ("swapped", "diversity", "Resolved configuration", "beta: 500.0", "runs/one", "2 min 01 s", "3.00 GiB"):
        assert part in page, part
    assert "TA is significantly down" in page
    assert "prompt 3, seed 1 (aligned)" in page
    assert "failed" in page
    assert page.count("<svg") == 5


def test_what_is_empty_is_left_out(report):
    page = render(Report(title="t", model="m", comparison=report.comparison))
    assert not re.search("<video|<svg|<script|<details|Controls|labelled nothing", page)


def test_no_warning_where_nothing_is_wrong(report):
    scores = torch.rand(5, 2)
    comparison = compare({"VQ": scores}, {"VQ": scores + 0.1}, generator=torch.Generator().manual_seed(0))
    assert "Look at this first" not in render(dataclasses.replace(report, comparison=comparison))


@pytest.mark.parametrize(("change", "verb"), [(0.1, "raised"), (-0.1, "lowered"), (0.0, "did not clearly change")])
def test_headline_says_what_the_interval_allows(change, verb):
    scores = torch.rand(5, 2)
    found = compare({"VQ": scores}, {"VQ": scores + change}, generator=torch.Generator().manual_seed(0))
    assert verb in headline(found)
    assert "95 % interval" in headline(found)


def test_an_interrupted_writing_leaves_the_former_report_whole(report, tmp_path, monkeypatch):
    path = tmp_path / "run" / "report.html"
    write_report(path, dataclasses.replace(report, samples=()))
    former = path.read_bytes()

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report_module.Path, "write_text", full)
    with pytest.raises(ReelignError, match="No space left"):
        write_report(path, dataclasses.replace(report, samples=()))
    assert path.read_bytes() == former
    assert list(path.parent.iterdir()) == [path]


def test_two_videos_of_different_length_are_refused(report):
    odd = dataclasses.replace(report.samples[0], aligned=report.samples[0].aligned[:5])
    with pytest.raises(ReelignError, match="differ in shape"):
        render(dataclasses.replace(report, samples=[odd]))
