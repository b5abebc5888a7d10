"""Diffusion-DPO against the equation worked in float64 without torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reelign.objectives import DPO, dpo_loss, implicit_accuracy, implicit_margin

CHANCE = np.random.default_rng(0)
ERROR, REFERENCE = CHANCE.uniform(0.1, 0.5, (2, 7, 2))


def by_hand(error: np.ndarray, reference: np.ndarray, beta: float) -> list[float]:
    """-log σ(-β/2 · [(e_w - ref_w) - (e_l - ref_l)]) = log(1 + exp(β/2 · [...]))."""
    losses = []
    for (chosen, rejected), (ref_chosen, ref_rejected) in zip(error.tolist(), reference.tolist(), strict=True):
        inner = beta / 2 * ((chosen - ref_chosen) - (rejected - ref_rejected))
        losses.append(math.log1p(math.exp(inner)))
    return losses


@pytest.mark.parametrize("beta", [0.1, 1.0, 20.0, 500.0])
def test_loss_is_the_equation(beta: float) -> None:
    loss = dpo_loss(torch.tensor(ERROR), torch.tensor(REFERENCE), beta=beta)
    np.testing.assert_allclose(loss.numpy(), by_hand(ERROR, REFERENCE, beta), rtol=1e-12)


def test_settings_are_the_function() -> None:
    error, reference = torch.tensor(ERROR), torch.tensor(REFERENCE)
    assert torch.equal(DPO(beta=20.0)(error, reference), dpo_loss(error, reference, beta=20.0))


def test_loss_is_log_2_where_policy_and_reference_agree() -> None:
    error = torch.tensor(ERROR)
    torch.testing.assert_close(dpo_loss(error, error, beta=5000.0), torch.full((7,), math.log(2)).double())


def test_loss_pulls_the_chosen_error_down_and_the_rejected_up() -> None:
    error = torch.tensor(ERROR, requires_grad=True)
    dpo_loss(error, torch.tensor(REFERENCE), beta=10.0).sum().backward()
    assert error.grad is not None
    assert (error.grad[:, 0] > 0).all()
    assert (error.grad[:, 1] < 0).all()
    torch.testing.assert_close(error.grad[:, 0], -error.grad[:, 1])


def test_gradient_at_the_reference_is_a_quarter_of_beta() -> None:
    error = torch.tensor(ERROR, requires_grad=True)
    dpo_loss(error, error.detach(), beta=8.0).sum().backward()
    torch.testing.assert_close(error.grad, torch.tensor([[2.0, -2.0]] * 7).double())


def test_huge_margins_stay_finite() -> None:
    error = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    loss = dpo_loss(error, torch.zeros(2, 2), beta=1e6)
    loss.sum().backward()
    assert loss.tolist() == [5e5, 0.0]
    assert error.grad is not None
    assert error.grad.isfinite().all()


def test_margin_is_positive_where_the_policy_ranks_as_the_judges_did() -> None:
    error, reference = torch.tensor([[0.1, 0.4], [0.4, 0.1]]), torch.full((2, 2), 0.2)
    torch.testing.assert_close(implicit_margin(error, reference), torch.tensor([0.3, -0.3]))


@pytest.mark.parametrize("shapes", [((4,), (4,)), ((4, 3), (4, 3)), ((4, 2), (3, 2)), ((2, 2, 2), (2, 2, 2))])
def test_errors_that_are_no_pairs_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"must both be \(pairs, 2\)"):
        dpo_loss(torch.zeros(shapes[0]), torch.zeros(shapes[1]), beta=1.0)


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan])
def test_beta_that_pulls_nowhere_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match="beta must be positive"):
        DPO(beta=beta)


@pytest.mark.parametrize("target", [0.0, 0.5, -1.0, math.nan])
def test_a_target_that_no_beta_can_hold_is_refused(target: float) -> None:
    with pytest.raises(ValueError, match="target_factor must lie between 0 and"):
        DPO(target_factor=target)


def test_accuracy_is_one_half_where_nothing_was_learnt() -> None:
    reference = torch.full((4, 2), 0.2)
    error = torch.tensor([[0.1, 0.4], [0.4, 0.1], [0.2, 0.2], [0.1, 0.3]])
    assert implicit_accuracy(reference, reference) == 0.5
    assert implicit_accuracy(error, reference) == 2.5 / 4
