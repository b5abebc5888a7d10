"""Bias and correlation: closed forms, and what is not told."""

from __future__ import annotations

import math

import pytest
import torch

from reelign.errors import ReelignError
from reelign.evaluation.ranking_bias import bias_towards, longer
from reelign.evaluation.ranking_correlation import correlation
from reelign.evaluation.ranking_intervals import interval
from reelign.records.bootstrap import Interval

NAN = float("nan")


def mean(values: torch.Tensor, prompts: torch.Tensor) -> Interval:
    return interval(values, prompts, resamples=200, level=0.95, seed=0)


def test_excess_is_what_the_score_chooses_beyond_people() -> None:
    # Eight pairs, in all the first is the longer. People choose it in four, the score in six and once cannot tell.
    favoured, prompts = torch.ones(8), torch.arange(8)
    verdict = torch.tensor([1.0, 1, 1, 1, -1, -1, -1, -1])
    difference = torch.tensor([1.0, 2, 3, 1, 1, 1, 0, -1])
    found = bias_towards(favoured, difference, verdict, prompts, mean=mean)
    assert found is not None
    assert (found.pairs, found.people.mean, found.reward.mean) == (8, 0.5, 6.5 / 8)
    assert found.excess.mean == pytest.approx(2.5 / 8)
    assert found.excess.low <= found.excess.mean <= found.excess.high


def test_the_side_of_the_pair_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    favoured = torch.randint(-1, 2, (60,), generator=generator).double()
    verdict = torch.randint(-1, 2, (60,), generator=generator).double()
    difference = torch.randn(60, generator=generator, dtype=torch.float64)
    prompts = torch.arange(60) // 3
    swap = torch.rand(60, generator=generator) < 0.5
    turn = torch.where(swap, -1.0, 1.0)
    one = bias_towards(favoured, difference, verdict, prompts, mean=mean)
    other = bias_towards(turn * favoured, turn * difference, turn * verdict, prompts, mean=mean)
    assert one == other


def test_ties_failures_and_equal_lengths_do_not_tell() -> None:
    favoured, prompts = torch.tensor([1.0, 1.0, 0.0, 1.0]), torch.arange(4)
    verdict, difference = torch.tensor([1.0, 0.0, 1.0, 1.0]), torch.tensor([1.0, 1.0, 1.0, NAN])
    found = bias_towards(favoured, difference, verdict, prompts, mean=mean)
    assert found is not None
    assert found.pairs == 1
    assert math.isnan(found.excess.low)  # one prompt tells nothing of others
    assert bias_towards(torch.zeros(4), difference, verdict, prompts, mean=mean) is None


def test_longer() -> None:
    assert longer(torch.tensor([2.0, -0.5, 0.0, 1e-5, NAN])).tolist() == [1, -1, 0, 0, 0]


def test_interval_of_one_prompt_or_none() -> None:
    alone = interval(torch.tensor([1.0, 0.0]), torch.tensor([3, 3]), resamples=10, level=0.9, seed=0)
    assert alone.mean == 0.5
    assert math.isnan(alone.low)
    assert math.isnan(interval(torch.tensor([NAN]), torch.tensor([3]), resamples=10, level=0.9, seed=0).mean)


def test_correlation_by_hand() -> None:
    # Ranks 1 2 3 4 5 against 2 1 3 5 4: the squared differences sum to 4, and 2 of 10 pairs are discordant.
    found = correlation(torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]), torch.tensor([20.0, 10.0, 30.0, 50.0, 40.0]))
    assert found.videos == 5
    assert found.spearman == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert found.kendall == pytest.approx((8 - 2) / 10)


def test_kendall_makes_up_for_ties() -> None:
    # Three concordant pairs and none discordant; one of six is tied on one side, two on the other (one on neither).
    found = correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 2.0]))
    assert found.kendall == pytest.approx(2 / math.sqrt(3 * 2))


def test_correlation_leaves_failures_out_and_is_nan_where_all_are_alike() -> None:
    assert correlation(torch.tensor([1.0, NAN, 2.0]), torch.tensor([1.0, 5.0, 2.0])).videos == 2
    assert math.isnan(correlation(torch.ones(4), torch.arange(4.0)).spearman)
    assert math.isnan(correlation(torch.tensor([]), torch.tensor([])).kendall)
    with pytest.raises(ReelignError, match="one shape"):
        correlation(torch.ones(3), torch.ones(2))
