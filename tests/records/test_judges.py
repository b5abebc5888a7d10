"""Judges found by name, and things that are none."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
import torch

from reelign.errors import ReelignError
from reelign.records import JUDGES, Judge, Verdict, load_judges


class Brighter:
    name, version, dimensions = "brighter", "1", ("VQ",)

    def compare(
        self, videos_a: torch.Tensor, videos_b: torch.Tensor, prompts: Sequence[str], *, generator: torch.Generator
    ) -> list[dict[str, Verdict]]:
        better = videos_a.mean(dim=(1, 2, 3, 4)) > videos_b.mean(dim=(1, 2, 3, 4))
        return [{"VQ": "a" if each else "b"} for each in better.tolist()]


class NeedsAThreshold(Brighter):
    def __init__(self, threshold: float) -> None:
        self.threshold = threshold


def _broken() -> Judge:
    raise TypeError("the judge's own mistake")


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    mine: Any = ModuleType("my_judges")
    mine.one = Brighter()
    mine.many = [Brighter(), Brighter()]
    mine.Brighter = Brighter
    mine.NeedsAThreshold = NeedsAThreshold
    mine.make_one = lambda: Brighter()
    mine.make_many = lambda: (Brighter(), Brighter(), Brighter())
    mine.needs_more = lambda path: Brighter()
    mine.nobody = []
    mine.number = 5
    mine.mixed = [Brighter(), "a word"]
    mine.broken = _broken
    monkeypatch.setitem(sys.modules, "my_judges", mine)


@pytest.mark.parametrize(
    ("name", "count"), [("one", 1), ("many", 2), ("Brighter", 1), ("make_one", 1), ("make_many", 3)]
)
def test_every_way_to_name_judges(name: str, count: int) -> None:
    judges = load_judges(f"my_judges:{name}")
    assert [judge.name for judge in judges] == ["brighter"] * count
    low, high = torch.zeros(2, 3, 3, 4, 4), torch.ones(2, 3, 3, 4, 4)
    assert judges[0].compare(low, high, ["", ""], generator=torch.Generator()) == [{"VQ": "b"}, {"VQ": "b"}]


def test_by_name_from_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(JUDGES, "brighter", "my_judges:one")
    assert load_judges("brighter")[0].dimensions == ("VQ",)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("spriteworld-peple", r"no judge is called 'spriteworld-peple'\n.*Did you mean 'spriteworld-people'"),
        ("my_judges", "no judge is called 'my_judges'"),
        ("my_judges:", "no judge is called"),
        ("no_such_module:one", "module 'no_such_module' cannot be imported"),
        ("my_judges:onne", r"has no 'onne'\nDid you mean 'one'"),
        ("my_judges:number", "my_judges:number is no judge: int lacks name"),
        ("my_judges:mixed", "is no judge: str lacks name"),
        ("my_judges:nobody", "empty list of judges"),
        ("my_judges:NeedsAThreshold", "cannot be called without arguments.*threshold"),
        ("my_judges:needs_more", "cannot be called without arguments.*path"),
    ],
)
def test_what_is_no_judge(spec: str, message: str) -> None:
    with pytest.raises(ReelignError, match=message):
        load_judges(spec)


def test_a_judges_own_error_is_not_hidden() -> None:
    with pytest.raises(TypeError, match="own mistake"):
        load_judges("my_judges:broken")
