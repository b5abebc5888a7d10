"""Diffusion-KTO against the equation worked in float64 without torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reelign.objectives import DPO, KTO, dpo_loss, kto_baseline, kto_loss

CHANCE = np.random.default_rng(0)
ERROR, REFERENCE = CHANCE.uniform(0.1, 0.5, (2, 9))
DESIRABLE = CHANCE.uniform(size=9) < 0.5


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


UTILITIES = {
    "sigmoid": sigma,
    "loss_averse": lambda x: math.log(sigma(x)),
    "risk_seeking": lambda x: -math.log(sigma(-x)),
}


@pytest.mark.parametrize("beta", [0.5, 4.0, 40.0])
@pytest.mark.parametrize("utility", UTILITIES)
def test_loss_is_the_equation(utility: str, beta: float) -> None:
    expected = []
    for error, reference, wanted in zip(ERROR.tolist(), REFERENCE.tolist(), DESIRABLE.tolist(), strict=True):
        gain = reference - error - 0.03
        expected.append(1 - UTILITIES[utility]((1 if wanted else -1) * beta * gain))
    loss = kto_loss(
        torch.tensor(ERROR),
        torch.tensor(REFERENCE),
        torch.tensor(DESIRABLE),
        beta=beta,
        baseline=0.03,
        utility=utility,  # type: ignore[arg-type]
    )
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-10)


def test_baseline_is_the_mean_gain_clamped_and_carries_no_gradient() -> None:
    gains = REFERENCE - ERROR
    assert gains.mean() > 0
    error = torch.tensor(ERROR, requires_grad=True)
    baseline = kto_baseline(error, torch.tensor(REFERENCE))
    assert float(baseline) == pytest.approx(gains.mean())
    assert not baseline.requires_grad
    assert float(kto_baseline(torch.tensor(REFERENCE), torch.tensor(ERROR))) == 0.0


def test_parts_clamped_on_their_own_would_add_up_to_something_else() -> None:
    error, reference = torch.tensor([0.3, 0.1]), torch.tensor([0.2, 0.3])
    parts = [kto_baseline(error[i : i + 1], reference[i : i + 1]) for i in range(2)]
    assert float(kto_baseline(error, reference)) == pytest.approx(0.05)
    assert float(sum(parts)) / 2 == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("utility", "expected"),
    [("sigmoid", 0.5), ("loss_averse", 1 + math.log(2)), ("risk_seeking", 1 - math.log(2))],
)
def test_loss_where_policy_and_reference_agree(utility: str, expected: float) -> None:
    error = torch.tensor(ERROR)
    baseline = kto_baseline(error, error)
    loss = kto_loss(error, error, torch.tensor(DESIRABLE), beta=5000.0, baseline=baseline, utility=utility)  # type: ignore[arg-type]
    torch.testing.assert_close(loss, torch.full((9,), expected).double())


@pytest.mark.parametrize("utility", UTILITIES)
def test_loss_pulls_desirable_errors_down_and_undesirable_up(utility: str) -> None:
    error, desirable = torch.tensor(ERROR, requires_grad=True), torch.tensor(DESIRABLE)
    kto_loss(error, torch.tensor(REFERENCE), desirable, beta=5.0, baseline=0.0, utility=utility).sum().backward()  # type: ignore[arg-type]
    assert error.grad is not None
    assert (error.grad[desirable] > 0).all()
    assert (error.grad[~desirable] < 0).all()


def test_at_the_reference_the_gradient_of_each_error_is_dpos_at_the_same_beta() -> None:
    """The reason why both have the same default."""
    pair = torch.tensor([[0.3, 0.4]], requires_grad=True)
    dpo_loss(pair, pair.detach(), beta=DPO().beta).sum().backward()
    single = pair.detach()[0].requires_grad_(True)
    desirable = torch.tensor([True, False])
    kto_loss(single, single.detach(), desirable, beta=KTO().beta, baseline=0.0).sum().backward()
    assert pair.grad is not None
    torch.testing.assert_close(single.grad, pair.grad[0])
    torch.testing.assert_close(pair.grad[0], torch.tensor([125.0, -125.0]))


def test_loss_averse_never_stops_on_losses_and_risk_seeking_never_on_gains() -> None:
    gain, wanted = torch.tensor([-10.0, 10.0]), torch.ones(2, dtype=torch.bool)

    def slope(utility: str) -> list[float]:
        error = (-gain).requires_grad_(True)
        kto_loss(error, torch.zeros(2), wanted, beta=2.0, baseline=0.0, utility=utility).sum().backward()  # type: ignore[arg-type]
        assert error.grad is not None
        return [round(value, 4) for value in error.grad.tolist()]

    assert slope("sigmoid") == [0.0, 0.0]
    assert slope("loss_averse") == [2.0, 0.0]
    assert slope("risk_seeking") == [0.0, 2.0]


def test_huge_gains_stay_finite() -> None:
    for utility in UTILITIES:
        error = torch.tensor([100.0, 0.0], requires_grad=True)
        desirable = torch.tensor([True, False])
        loss = kto_loss(error, torch.ones(2), desirable, beta=1e6, baseline=0.0, utility=utility)  # type: ignore[arg-type]
        loss.sum().backward()
        assert loss.isfinite().all()
        assert error.grad is not None
        assert error.grad.isfinite().all()


def test_settings_weigh_the_two_kinds_apart() -> None:
    error, reference, desirable = torch.tensor(ERROR), torch.tensor(REFERENCE), torch.tensor(DESIRABLE)
    plain = kto_loss(error, reference, desirable, beta=20.0, baseline=0.01)
    objective = KTO(beta=20.0, undesirable_weight=3.0)
    found = objective(error, reference, desirable, baseline=torch.tensor(0.01))
    torch.testing.assert_close(found, torch.where(desirable, plain, 3 * plain))


def test_what_is_no_video_or_no_label_is_refused() -> None:
    four = torch.zeros(4)
    for shapes in ((4, 3, 4), (4, 4, 3)):
        with pytest.raises(ValueError, match=r"must all be \(videos,\)"):
            kto_loss(*[torch.zeros(n) for n in shapes[:2]], torch.zeros(shapes[2]).bool(), beta=1.0, baseline=0.0)
    with pytest.raises(ValueError, match="desirable must be bool"):
        kto_loss(four, four, four, beta=1.0, baseline=0.0)
    with pytest.raises(ValueError, match="utility must be"):
        kto_loss(four, four, four.bool(), beta=1.0, baseline=0.0, utility="happy")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"must both be \(videos,\)"):
        kto_baseline(torch.zeros(0), torch.zeros(0))


@pytest.mark.parametrize("wrong", [{"beta": 0.0}, {"desirable_weight": -1.0}, {"undesirable_weight": math.nan}])
def test_settings_that_pull_nowhere_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be positive"):
        KTO(**wrong)  # type: ignore[arg-type]
