"""Losses of a reward against their equations worked in float64 without torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reelign.objectives.ranking import (
    MISSING,
    BradleyTerry,
    BradleyTerryTies,
    ScoreRegression,
    bradley_terry_loss,
    bradley_terry_ties_loss,
    decided,
    score_regression_loss,
    valid_mean,
)

CHANCE = np.random.default_rng(0)
A, B = CHANCE.normal(size=(2, 40, 3))
LABELS = CHANCE.choice([1.0, -1.0, 0.0, math.nan], size=(40, 3))


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.tensor(each) for each in arrays]


def rao_kupper(a: float, b: float, theta: float) -> tuple[float, float, float]:
    """P(a), P(b), P(tie) as fractions of the two videos' merits, which no logarithm or sigmoid enters."""
    pi_a, pi_b = math.exp(a), math.exp(b)
    wins, loses = pi_a / (pi_a + theta * pi_b), pi_b / (pi_b + theta * pi_a)
    return wins, loses, (theta**2 - 1) * pi_a * pi_b / ((pi_a + theta * pi_b) * (theta * pi_a + pi_b))


def by_hand(label: float, a: float, b: float, margin: float = 0.0) -> float:
    """log(1 + e^(margin - d)) for a decided verdict."""
    if label not in (1.0, -1.0):
        return 0.0
    return math.log1p(math.exp(margin - label * (a - b)))


@pytest.mark.parametrize("margin", [0.0, 0.57])
def test_bradley_terry_is_the_equation(margin: float) -> None:
    loss = bradley_terry_loss(*tensors(A, B, LABELS), margin=margin)
    expected = np.vectorize(by_hand)(LABELS, A, B, margin)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("theta", [1.0001, 2.0, 5.0, 1e6])
def test_with_ties_it_is_the_equation(theta: float) -> None:
    loss = bradley_terry_ties_loss(*tensors(A, B, LABELS), log_theta=math.log(theta)).numpy()
    place = {1.0: 0, -1.0: 1, 0.0: 2}
    for label, a, b, found in zip(LABELS.flat, A.flat, B.flat, loss.flat, strict=True):
        chances = rao_kupper(a, b, theta)
        assert math.isclose(sum(chances), 1.0, rel_tol=1e-12)
        expected = 0.0 if math.isnan(label) else -math.log(chances[place[label]])
        assert math.isclose(found, expected, rel_tol=1e-8, abs_tol=1e-12)


def test_equal_videos_are_ties_in_theta_less_1_by_theta_plus_1_of_the_cases() -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    tie = bradley_terry_ties_loss(zero, zero, torch.zeros(1, dtype=torch.float64), log_theta=math.log(5))
    assert math.isclose(math.exp(-tie.item()), 2 / 3, rel_tol=1e-12)


def test_theta_near_1_is_bradley_terry() -> None:
    a, b, labels = tensors(A, B, LABELS)
    with_ties = bradley_terry_ties_loss(a, b, labels, log_theta=1e-9)
    mask = decided(labels)
    torch.testing.assert_close(with_ties[mask], bradley_terry_loss(a, b, labels)[mask], rtol=1e-6, atol=1e-8)


def test_log_2_where_the_rewards_agree() -> None:
    one = torch.ones(2)
    torch.testing.assert_close(bradley_terry_loss(one, one, torch.tensor([1.0, -1.0])), torch.full((2,), math.log(2)))


def test_gradients_raise_the_preferred_lower_the_other_and_bring_ties_together() -> None:
    a = torch.tensor([0.3, 0.3, 0.3, 0.3], requires_grad=True)
    b = torch.tensor([0.1, 0.1, 0.1, 0.1], requires_grad=True)
    labels = torch.tensor([1.0, -1.0, 0.0, MISSING])
    for loss in (bradley_terry_loss(a, b, labels), bradley_terry_ties_loss(a, b, labels, log_theta=math.log(5))):
        grad_a, grad_b = torch.autograd.grad(loss.sum(), (a, b))
        assert grad_a[0] < 0 < grad_b[0]
        assert grad_b[1] < 0 < grad_a[1]
        assert grad_a[3] == grad_b[3] == 0
        torch.testing.assert_close(grad_a, -grad_b)
    tie_a, tie_b = torch.autograd.grad(bradley_terry_ties_loss(a, b, labels, log_theta=1.0).sum(), (a, b))
    assert tie_a[2] > 0 > tie_b[2]
    assert torch.autograd.grad(bradley_terry_loss(a, b, labels).sum(), a)[0][2] == 0


def test_a_learned_theta_rises_with_ties_and_falls_without() -> None:
    log_theta = torch.tensor([1.0, 1.0], requires_grad=True)
    zero = torch.zeros(4, 2)
    labels = torch.tensor([[0.0, 1.0]] * 4)
    (gradient,) = torch.autograd.grad(bradley_terry_ties_loss(zero, zero, labels, log_theta=log_theta).sum(), log_theta)
    assert gradient[0] < 0 < gradient[1]


def test_huge_differences_stay_finite() -> None:
    a = torch.tensor([1e4, -1e4, 1e4, 1e4], requires_grad=True)
    labels = torch.tensor([1.0, 1.0, 0.0, MISSING])
    loss = bradley_terry_ties_loss(a, torch.zeros(4), labels, log_theta=math.log(5))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert a.grad is not None
    assert a.grad.isfinite().all()
    assert loss[0] == loss[3] == 0


def test_margins_of_scores_and_weights_of_scores() -> None:
    a, b, labels = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.0]), torch.tensor([1.0, 0.0])
    gaps = torch.tensor([2.0, math.nan])
    shifted = BradleyTerry(margin="scores")(a, b, labels, gaps)
    scaled = BradleyTerry(margin="scaled")(a, b, labels, gaps)
    assert shifted.tolist() == pytest.approx([math.log1p(math.exp(1.5)), 0.0])
    assert scaled.tolist() == pytest.approx([2 * math.log1p(math.exp(-0.5)), 0.0])
    constant = BradleyTerry(margin="constant")(a, b, labels)
    assert constant.tolist() == pytest.approx([math.log1p(math.exp(0.07)), 0.0])
    with pytest.raises(ValueError, match="needs the gaps"):
        BradleyTerry(margin="scores")(a, b, labels)


def test_a_margin_that_nobody_gave_leaves_no_nan_in_the_gradient() -> None:
    a = torch.zeros(2, requires_grad=True)
    loss = BradleyTerry(margin="scores")(a, torch.zeros(2), torch.tensor([1.0, 0.0]), torch.tensor([1.0, math.nan]))
    loss.sum().backward()
    assert a.grad is not None
    assert a.grad.isfinite().all()


def test_regression_is_the_squared_distance_to_the_centred_score() -> None:
    rewards = torch.tensor([1.0, -1.0, 0.0], requires_grad=True)
    loss = score_regression_loss(rewards, torch.tensor([5.0, 3.0, math.nan]), centre=3.0)
    assert loss.tolist() == [1.0, 1.0, 0.0]
    loss.sum().backward()
    assert rewards.grad is not None
    assert rewards.grad.tolist() == [-2.0, -2.0, 0.0]


def test_the_mean_is_of_what_was_said_and_missing_labels_do_not_shrink_it() -> None:
    labels = torch.tensor([[1.0, MISSING], [MISSING, -1.0], [MISSING, MISSING]])
    a, b = torch.tensor([[1.0, 0.0]] * 3), torch.tensor([[0.0, 2.0]] * 3)
    loss = bradley_terry_loss(a, b, labels)
    expected = (math.log1p(math.exp(-1)) + math.log1p(math.exp(-2))) / 2
    assert valid_mean(loss, decided(labels)).item() == pytest.approx(expected)


def test_labels_that_teach_nothing_are_refused() -> None:
    labels = torch.zeros(4, 3)
    loss = bradley_terry_loss(torch.zeros(4, 3), torch.zeros(4, 3), labels)
    with pytest.raises(ValueError, match="no label of the batch teaches"):
        valid_mean(loss, decided(labels))
    with pytest.raises(ValueError, match="bool mask of their shape"):
        valid_mean(loss, decided(labels)[:2])


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (torch.tensor([2.0]), "1 for a"),
        (torch.tensor([1]), "must be float"),
        (torch.tensor([1.0, 1.0]), "must have one shape"),
    ],
)
def test_labels_of_another_kind_are_refused(labels: torch.Tensor, what: str) -> None:
    for loss in (bradley_terry_loss, lambda *args: bradley_terry_ties_loss(*args, log_theta=1.0)):
        with pytest.raises(ValueError, match=what):
            loss(torch.zeros(1), torch.zeros(1), labels)


def test_scores_of_another_shape_and_a_theta_without_ties_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        score_regression_loss(torch.zeros(2), torch.zeros(3))
    for log_theta in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="log theta must be above 0"):
            bradley_terry_ties_loss(torch.zeros(1), torch.zeros(1), torch.zeros(1), log_theta=log_theta)


def test_settings_without_meaning_are_refused() -> None:
    for theta in (1.0, 0.5, math.inf, math.nan):
        with pytest.raises(ValueError, match="theta must be above 1"):
            BradleyTerryTies(theta=theta)
    with pytest.raises(ValueError, match="constant must be"):
        BradleyTerry(constant=-1.0)
    with pytest.raises(ValueError, match="margin must be one of"):
        BradleyTerry(margin="wide")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="centre must be"):
        ScoreRegression(centre=math.nan)
