"""IPO's composition: an objective and weighted denoising errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reelign.objectives import Anchors, anchored_loss, dpo_loss, kto_loss

CHANCE = np.random.default_rng(0)


def test_ipo_is_dpo_and_two_denoising_errors() -> None:
    error, reference = CHANCE.uniform(0.1, 0.5, (2, 6, 2))
    real = CHANCE.uniform(0.1, 0.5, 6)
    change = error - reference
    expected = np.log1p(np.exp(10.0 * (change[:, 0] - change[:, 1]))) + 0.2 * error[:, 0] + 0.1 * real
    dpo = dpo_loss(torch.tensor(error), torch.tensor(reference), beta=20.0)
    found = anchored_loss(dpo, chosen_error=torch.tensor(error[:, 0]), real_error=torch.tensor(real))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


def test_beside_kto_there_is_real_video_alone() -> None:
    error, real = torch.full((3,), 0.4), torch.tensor([0.1, 0.2, 0.3])
    kto = kto_loss(error, error, torch.tensor([True, False, True]), beta=10.0, baseline=0.0)
    found = anchored_loss(kto, real_error=real, real_weight=0.5)
    torch.testing.assert_close(found, torch.tensor([0.55, 0.6, 0.65]))


def test_the_anchor_keeps_pulling_the_chosen_error_down_where_dpo_is_done() -> None:
    error = torch.tensor([[0.0, 1.0]], requires_grad=True)
    dpo = dpo_loss(error, torch.zeros(1, 2), beta=1e3)
    anchored_loss(dpo, chosen_error=error[:, 0], chosen_weight=0.2).sum().backward()
    assert error.grad is not None
    assert error.grad.tolist()[0] == pytest.approx([0.2, 0.0])


def test_no_anchor_is_the_objective() -> None:
    loss = torch.rand(4)
    assert torch.equal(anchored_loss(loss), loss)


def test_wrong_anchors_are_refused() -> None:
    with pytest.raises(ValueError, match=r"real_error must have the loss's shape \(4,\)"):
        anchored_loss(torch.zeros(4), real_error=torch.zeros(3))
    for wrong in (-0.1, math.nan):
        with pytest.raises(ValueError, match="chosen must be at least 0"):
            Anchors(chosen=wrong)
