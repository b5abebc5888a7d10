"""Verdicts are read where they stand, and nowhere else."""

from __future__ import annotations

import pytest

from reelign.critics.formats import GRADES, SIDES
from reelign.critics.parsing import read_verdict, reason_of


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("A is sharper.\nVerdict: A", "a"),
        ("They are alike.\n\n**Verdict:** tie.", "tie"),
        ("verdict : [B]\n", "b"),
        ("<think>Verdict: A at first sight.</think>B moves better.\nVerdict: B", "b"),
        ("Verdict: B\nAs I said.\nVerdict: B", "b"),
        ("> - Verdict: **A**", "a"),
    ],
)
def test_a_verdict_is_read_as_written(text: str, verdict: str) -> None:
    found = read_verdict(text, SIDES)
    assert found is not None
    assert found[0] == verdict
    assert text[found[1] :].lower().startswith(verdict)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A is better.",
        "I prefer video A",
        "Verdict: A or B",
        "Verdict: Video A is better",
        "Verdict: AB",
        "Verdict: A\nVerdict: B",
        "Verdict: A\nVerdict: B\nVerdict: tie",
        "Verdict:",
        "<think>It is A.\nVerdict: A",
        "<think>Verdict: A</think>",
        "Verdict: good",
    ],
)
def test_what_is_not_there_is_not_guessed(text: str) -> None:
    assert read_verdict(text, SIDES) is None


def test_grades_have_their_own_words() -> None:
    assert read_verdict("Blurred.\nVerdict: bad", GRADES) == ("bad", 18)
    assert read_verdict("Verdict: A", GRADES) is None


def test_reasons_are_what_is_not_the_verdict() -> None:
    assert reason_of("A is sharper.\nB is blurred.\nVerdict: A") == "A is sharper.\nB is blurred."
    assert reason_of("<think>Long.</think>Short.\nVerdict: A") == "Short."
    assert reason_of("<think>Long.</think>\nVerdict: A") == "Long."
    assert reason_of("Verdict: tie") == ""
