"""Every family's licence is told, in the words of the page of families."""

from __future__ import annotations

from pathlib import Path

from reelign.generators import GENERATORS
from reelign.generators.licences import LICENCES

PAGE = Path(__file__).parents[2] / "docs" / "families.md"


def test_every_family_has_the_licence_that_its_row_has() -> None:
    assert set(LICENCES) == set(GENERATORS)
    rows = [line.split("|") for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    for name, licence in LICENCES.items():
        told = {row[7].strip() for row in rows if f"`{name}`" in row[2]}
        assert licence in told, (name, told)
