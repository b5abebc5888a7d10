"""Ranks of the chosen best: by hand, by chance, and the published table against its own recalls."""

from __future__ import annotations

import itertools

import pytest
import torch

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.evaluation.feedback_published import RANKING
from reelign.evaluation.ranking_groups import (
    RECALL_AT,
    chance_recall,
    chance_reciprocal_rank,
    rank_of_best,
    recall_at,
    reciprocal_rank,
)


def test_by_hand() -> None:
    scores = torch.tensor([0.1, 0.9, 0.5, 0.5])
    assert [rank_of_best(scores, best) for best in range(4)] == [4, 1, 3, 3]
    ranks = torch.tensor([1.0, 3.0, float("nan"), 4.0])
    assert reciprocal_rank(ranks).nanmean().item() == pytest.approx((1 + 1 / 3 + 1 / 4) / 3)
    assert [recall_at(ranks, k).nanmean().item() for k in RECALL_AT] == pytest.approx([1 / 3, 1 / 3, 1])
    assert recall_at(ranks, 4).isnan().tolist() == [False, False, True, False]


def test_a_scorer_that_tells_nothing_apart_is_last() -> None:
    assert rank_of_best(torch.zeros(8), 3) == 8


def test_a_group_with_a_failed_candidate_has_no_rank() -> None:
    assert torch.tensor(rank_of_best(torch.tensor([1.0, float("nan"), 0.0]), 0)).isnan()


def test_chance_is_the_mean_over_all_orders() -> None:
    for size in (2, 3, 5):
        ranks = torch.tensor(
            [rank_of_best(torch.tensor(order, dtype=torch.float64), 0) for order in itertools.permutations(range(size))]
        )
        assert chance_reciprocal_rank([size]) == pytest.approx(reciprocal_rank(ranks).mean().item())
        for k in RECALL_AT:
            assert chance_recall([size], k) == pytest.approx(recall_at(ranks, k).mean().item())
    assert chance_reciprocal_rank([8]) == pytest.approx(0.3397, abs=5e-5)
    assert chance_recall([8, 4], 2) == pytest.approx((2 / 8 + 2 / 4) / 2)


def test_random_scores_come_out_at_chance() -> None:
    generator = generator_from("ranks")
    ranks = torch.tensor([rank_of_best(torch.rand(8, generator=generator), 0) for _ in range(4000)])
    assert reciprocal_rank(ranks).mean().item() == pytest.approx(chance_reciprocal_rank([8]), abs=0.015)


def test_the_published_mrr_exceeds_its_recalls_in_four_rows_of_five() -> None:
    """At best a choice within the first k and not the first j has rank j + 1."""
    possible = {}
    for name, (mrr, first, second, fourth) in RANKING.items():
        most = first + (second - first) / 2 + (fourth - second) / 3 + (100 - fourth) / 5
        possible[name] = mrr <= most
    assert possible == {
        "LAION aesthetic": False,
        "ImageReward": False,
        "MPS": False,
        "HPSv2": True,
        "VideoScore": False,
    }


@pytest.mark.parametrize(("scores", "best"), [(torch.ones(1), 0), (torch.ones(3), 3), (torch.ones(2, 2), 0)])
def test_refusals(scores: torch.Tensor, best: int) -> None:
    with pytest.raises(ReelignError, match="has no rank"):
        rank_of_best(scores, best)
