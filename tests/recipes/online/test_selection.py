"""Which candidates of a group become a preference, worked by hand."""

from __future__ import annotations

from math import nan

import pytest
import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.recipes.online.selection import Selected, Selection, select, totals


def chosen(scores: dict[str, list[float]], ties: dict[str, float] | None = None, **settings: object) -> Selected:
    """What is found in one group."""
    how = Selection(**settings)  # type: ignore[arg-type]
    table = {name: torch.tensor([values]) for name, values in scores.items()}
    (found,) = select(table, how, how.of(tuple(scores)), ties or {})
    return found


def test_the_best_stands_against_the_worst() -> None:
    assert chosen({"MQ": [0.2, 0.9, 0.1, 0.5]}) == Selected([(1, 2)], None)


def test_the_second_best_stands_against_the_second_worst() -> None:
    assert chosen({"MQ": [0.2, 0.9, 0.1, 0.5]}, top=2).pairs == [(1, 2), (3, 0)]
    assert chosen({"MQ": [0.2, 0.9, 0.1]}, top=2).pairs == [(1, 2)]


@pytest.mark.parametrize(
    ("weights", "pair"),
    [
        ({"VQ": 1.0}, (0, 2)),
        ({"MQ": 1.0}, (2, 0)),
        # 2·VQ + MQ is 2, 1.9, 1
        ({"VQ": 2.0, "MQ": 1.0}, (0, 2)),
        ({"VQ": -1.0}, (2, 0)),
        # The means are 0.5, 0.55 and 0.5: of two equal worst ones the first.
        (None, (1, 0)),
    ],
)
def test_any_dimension_or_their_weighted_sum_decides(weights: dict[str, float] | None, pair: tuple[int, int]) -> None:
    assert chosen({"VQ": [1.0, 0.8, 0.0], "MQ": [0.0, 0.3, 1.0]}, weights=weights).pairs == [pair]


def test_overall_speaks_alone_where_a_judge_gives_it() -> None:
    scores = {"overall": [0.0, 1.0], "part": [9.0, 0.0]}
    assert chosen(scores).pairs == [(1, 0)]
    assert chosen(scores, weights={"part": 1}).pairs == [(0, 1)]


def test_agreement_asks_every_dimension_and_takes_the_widest_pair_that_all_agree_on() -> None:
    # By the sum 0 beats 2 (1.5 to 0.1), but they contradict each other on MQ; 1 beats 2 on both, and 3 beats 2 less.
    scores = {"VQ": [1.5, 0.5, 0.0, 0.1], "MQ": [0.0, 0.3, 0.1, 0.2]}
    assert chosen(scores, weights={"VQ": 1, "MQ": 1}).pairs == [(0, 2)]
    assert chosen(scores, weights={"VQ": 1, "MQ": 1}, feedback="agreement").pairs == [(1, 2)]


def test_dimensions_that_contradict_each_other_give_nothing() -> None:
    found = chosen({"VQ": [1.0, 0.0], "MQ": [0.0, 0.5]}, feedback="agreement")
    assert found == Selected([], "conflict")


@pytest.mark.parametrize(
    ("values", "ties", "settings", "reason"),
    [
        ([0.5, 0.5, 0.5], {}, {}, "equal"),
        ([0.5, 0.7, 0.6], {"MQ": 0.2}, {}, "equal"),
        ([0.5, 0.7, 0.6], {}, {"min_margin": 0.25}, "equal"),
        ([0.5, nan, nan], {}, {}, "unscored"),
        ([nan, nan, nan], {}, {}, "unscored"),
    ],
)
def test_a_group_without_a_preference_says_why(
    values: list[float], ties: dict[str, float], settings: dict[str, float], reason: str
) -> None:
    assert chosen({"MQ": values}, ties, **settings) == Selected([], reason)  # type: ignore[arg-type]


def test_a_candidate_without_a_score_is_left_out_and_never_the_worst() -> None:
    assert chosen({"MQ": [0.4, nan, 0.6]}).pairs == [(2, 0)]
    # Only what counts has to be scored.
    assert chosen({"MQ": [0.4, 0.1, 0.6], "VQ": [1.0, nan, 1.0]}, weights={"MQ": 1}).pairs == [(2, 1)]


def test_totals_are_weighted_sums() -> None:
    scores: dict[str, Tensor] = {"VQ": torch.tensor([[1.0, 2.0]]), "MQ": torch.tensor([[10.0, nan]])}
    found = totals(scores, {"VQ": 3.0, "MQ": -0.5})
    assert found[0, 0] == 3 - 5
    assert found[0, 1].isnan()


def test_what_is_refused() -> None:
    with pytest.raises(ReelignError, match="no dimension 'TA'"):
        Selection(weights={"TA": 1}).of(("VQ", "MQ"))
    for wrong in ({"top": 0}, {"min_margin": -1}, {"weights": {"VQ": 0}}):
        with pytest.raises(ValueError, match="must"):
            Selection(**wrong)  # type: ignore[arg-type]
