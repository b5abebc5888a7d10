"""Normalising, capping and weighting against values worked out by hand; NaN stays NaN."""

from __future__ import annotations

import math

import pytest
import torch

from reelign.errors import ReelignError
from reelign.rewards.failures import Failures, scored
from reelign.rewards.transforms import capped, group_normalised, weighted_sum, z_normalised

NAN = float("nan")


def same(found: torch.Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(found, torch.tensor(expected), equal_nan=True, atol=1e-4, rtol=1e-4)


def test_constants_that_are_given() -> None:
    # VideoReward's constants of visual quality: its mean becomes 0, and one spread above it 1.
    same(z_normalised(torch.tensor([3.6757, 3.6757 + 2.2476, NAN]), mean=3.6757, std=2.2476), [0, 1, NAN])
    with pytest.raises(ReelignError, match="divided by a spread of 0"):
        z_normalised(torch.zeros(2), mean=0, std=0)


def test_each_group_by_its_own_mean_and_spread() -> None:
    found = group_normalised(torch.tensor([1.0, 10.0, 3.0, 30.0, 20.0]), ["a", "b", "a", "b", "b"])
    spread = math.sqrt(200 / 3)
    same(found, [-1, -10 / spread, 1, 10 / spread, 0])
    same(group_normalised(torch.tensor([1.0, 3.0]), [0, 0], scale=False), [-1.0, 1.0])


def test_a_failed_sample_counts_in_no_mean() -> None:
    same(group_normalised(torch.tensor([1.0, NAN, 3.0]), ["a", "a", "a"]), [-1, NAN, 1])


def test_equal_scores_give_nothing_and_a_group_of_one_is_no_group() -> None:
    same(group_normalised(torch.tensor([2.0, 2.0]), ["a", "a"]), [0.0, 0.0])
    same(group_normalised(torch.tensor([2.0, NAN, 5.0]), ["a", "a", "b"]), [NAN, NAN, NAN])
    with pytest.raises(ReelignError, match="1 groups were given"):
        group_normalised(torch.zeros(2), ["a"])


def test_a_cap_takes_the_gradient_beyond_it() -> None:
    scores = torch.tensor([1.0, 2.5], requires_grad=True)
    capped(scores, 2.0).sum().backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == [1, 0]
    same(capped(torch.tensor([NAN, 3.0]), 2.0), [NAN, 2])
    assert capped(scores, None) is scores


def test_a_sum_of_what_has_a_weight() -> None:
    scores = {"VQ": torch.tensor([1.0, NAN, 2.0]), "MQ": torch.tensor([10.0, 10.0, 20.0]), "TA": torch.full((3,), NAN)}
    same(weighted_sum(scores, {"VQ": 2.0, "MQ": -0.5, "TA": 0}), [-3, NAN, -6])


@pytest.mark.parametrize("weights", [{}, {"VQ": 0.0}, {"VQ": math.inf}, {"VQ": NAN}, {"vq": 1.0}])
def test_weights_that_say_nothing_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ReelignError, match=r"add up to nothing|no such score"):
        weighted_sum({"VQ": torch.zeros(2)}, weights)


def test_failed_samples_are_counted_and_named() -> None:
    failures = Failures()
    assert str(failures) == "all 0 samples were scored"
    mask = failures.add({"VQ": torch.tensor([1.0, NAN]), "TA": torch.tensor([math.inf, 2.0])}, ["one", "two"])
    assert mask.tolist() == [False, False]
    assert failures.add({"VQ": torch.ones(6), "TA": torch.full((6,), NAN)}, range(6)).sum() == 0
    assert failures.add({"VQ": torch.ones(1), "TA": torch.ones(1)}, ["good"]).tolist() == [True]
    assert len(failures) == 8
    assert str(failures) == (
        "8 of 9 samples could not be scored and are left out: one (TA), two (VQ), 0 (TA), 1 (TA), 2 (TA) and 3 more"
    )
    assert scored({"VQ": torch.tensor([0.0, -math.inf])}).tolist() == [True, False]
