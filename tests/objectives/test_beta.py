"""β: conversion between reductions, its schedule over sigma, and the controller that moves it."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from reelign.errors import ReelignError
from reelign.objectives import AutoBeta, beta_at, check_schedule, dpo_loss, gradient_factor, mean_beta


def test_a_sums_beta_gives_the_very_loss_of_the_sum() -> None:
    squared = np.random.default_rng(0).uniform(0, 1, (2, 5, 2, 48))  # model, pairs, sides, elements
    summed, mean = squared.sum(-1), squared.mean(-1)
    inner = 0.5 * 3.0 * ((summed[0] - summed[1])[:, 0] - (summed[0] - summed[1])[:, 1])
    expected = np.log1p(np.exp(inner))
    beta = mean_beta(3.0, reduction="sum", elements=48)
    assert beta == 144.0
    np.testing.assert_allclose(dpo_loss(*torch.tensor(mean), beta=beta).numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("beta", "reduction", "elements"), [(500.0, "sum", 10**6), (0.002, "mean", 10**6), (1e7, "mean", 4)]
)
def test_a_beta_of_the_other_reduction_is_noticed(beta: float, reduction: str, elements: int) -> None:
    with pytest.warns(UserWarning, match="Check which one was meant"):
        mean_beta(beta, reduction=reduction, elements=elements)  # type: ignore[arg-type]


def test_betas_in_use_pass_in_silence() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mean_beta(5000.0, reduction="mean", elements=10**6) == 5000.0
        assert mean_beta(5e-4, reduction="sum", elements=10**6) == pytest.approx(500.0)


def test_the_schedule_is_one_minus_sigma_squared() -> None:
    sigma = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    assert beta_at(100.0, sigma, "constant") == 100.0
    scheduled = beta_at(100.0, sigma, "one_minus_sigma_squared")
    assert isinstance(scheduled, torch.Tensor)
    np.testing.assert_allclose(scheduled.numpy(), [100.0, 56.25, 25.0, 0.0])
    error = torch.rand(4, 2, dtype=torch.float64)
    one_by_one = [dpo_loss(error[i : i + 1], 0.5 * error[i : i + 1], beta=float(b)) for i, b in enumerate(scheduled)]
    torch.testing.assert_close(dpo_loss(error, 0.5 * error, beta=scheduled), torch.cat(one_by_one))


def test_the_schedule_is_refused_off_flow_models() -> None:
    check_schedule("one_minus_sigma_squared", "flow")
    check_schedule("constant", "epsilon")
    for prediction in ("epsilon", "v_prediction"):
        with pytest.raises(ReelignError, match=f"{prediction} model .* count twice") as caught:
            check_schedule("one_minus_sigma_squared", prediction)
        assert "constant" in caught.value.mend


def test_the_factor_is_the_gradient_of_the_loss() -> None:
    error, reference = torch.rand(2, 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    error.requires_grad_(True)
    dpo_loss(error, reference, beta=7.0).sum().backward()
    assert error.grad is not None
    torch.testing.assert_close(error.grad[:, 0], 3.5 * gradient_factor(error.detach(), reference, beta=7.0))


def test_an_automatic_beta_settles_where_the_factor_is_the_target() -> None:
    margin, target = 0.01, 0.2
    auto = AutoBeta(500.0, target=target, rate=0.5)
    for _ in range(400):
        auto.update(1 / (1 + math.exp(auto.beta / 2 * margin)))
    # σ(-β/2·m) = target where β = 2·log((1 - target) / target) / m.
    assert auto.beta == pytest.approx(2 * math.log(4) / margin, rel=1e-3)


def test_an_automatic_beta_stays_within_its_span_and_passes_over_what_is_not_finite() -> None:
    auto = AutoBeta(10.0, target=0.2, rate=1.0, span=4.0)
    for _ in range(50):
        auto.update(0.5)
    assert auto.beta == pytest.approx(40.0)
    auto.update(math.nan)
    assert auto.beta == pytest.approx(40.0)
    for _ in range(50):
        auto.update(0.0)
    assert auto.beta == pytest.approx(2.5)


def test_an_automatic_beta_goes_on_from_its_state() -> None:
    first, second = AutoBeta(10.0, target=0.2), AutoBeta(10.0, target=0.2)
    for factor in (0.5, 0.4, 0.3):
        first.update(factor)
    second.load_state_dict(first.state_dict())
    assert second.beta == first.beta != 10.0
