"""Temperature and θ against what the labels were drawn with, and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from reelign.recipes.reward.calibration import calibrate, fit_rao_kupper


def tensors(*values: list[float]) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(each, dtype=torch.float64) for each in values)


def drawn(count: int, scale: float, theta: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Differences, and labels drawn from Rao and Kupper's model at them."""
    chance = np.random.default_rng(seed)
    d = chance.normal(size=count)
    a, b = 1 / (1 + theta * np.exp(-scale * d)), 1 / (1 + theta * np.exp(scale * d))
    u = chance.uniform(size=count)
    return torch.from_numpy(d), torch.from_numpy(np.where(u < a, 1.0, np.where(u < a + b, -1.0, 0.0)))


@pytest.mark.parametrize(("scale", "theta"), [(0.5, 2.0), (2.0, 5.0)])
def test_the_fit_finds_what_the_labels_were_drawn_with(scale: float, theta: float) -> None:
    found_scale, found_theta = fit_rao_kupper(*drawn(40_000, scale, theta))
    assert found_scale == pytest.approx(scale, rel=0.05)
    assert found_theta == pytest.approx(theta, rel=0.05)


def test_without_ties_it_is_bradley_terry_whose_scale_has_a_closed_form() -> None:
    # Of equal differences 1, three of four go a's way: σ(s) = ¾, s = log 3.
    scale, theta = fit_rao_kupper(*tensors([1.0] * 8, [1.0] * 6 + [-1.0] * 2))
    assert theta == 1.0
    assert scale == pytest.approx(math.log(3), rel=1e-4)


def test_equal_videos_give_theta_by_their_share_of_ties() -> None:
    # At d = 0 the share of ties is (θ - 1) / (θ + 1): two thirds are θ = 5.
    _, theta = fit_rao_kupper(*tensors([0.0] * 6, [0.0, 0.0, 0.0, 0.0, 1.0, -1.0]))
    assert theta == pytest.approx(5, rel=1e-3)


def test_pairs_that_are_all_right_end_at_the_bound() -> None:
    found = calibrate(*tensors([1.0, -2.0, 3.0], [1.0, -1.0, 1.0]))
    assert found is not None
    assert 0 < found.temperature < 0.1
    assert found.tie_threshold == 0.0


def test_the_threshold_is_fitted_on_the_same_pairs() -> None:
    # From 0.2 on small differences are ties: halfway to the next size, 1.0.
    found = calibrate(*tensors([0.1, -0.2, 1.0, -1.5], [0.0, 0.0, 1.0, -1.0]))
    assert found is not None
    assert found.tie_threshold == pytest.approx(0.6)


def test_nothing_decided_fits_nothing_and_what_nobody_said_is_passed_over() -> None:
    assert calibrate(*tensors([1.0, 2.0], [0.0, math.nan])) is None
    found = calibrate(*tensors([1.0, -1.0, 9.0], [1.0, 1.0, math.nan]))
    assert found is not None
    assert found.pairs == 2
