"""Supervised fine-tuning is the error itself."""

from __future__ import annotations

import pytest
import torch

from reelign.objectives import SFT, sft_loss


def test_loss_is_the_error_and_its_gradient_one() -> None:
    error = torch.tensor([0.2, 0.7], requires_grad=True)
    loss = SFT()(error)
    loss.sum().backward()
    assert torch.equal(loss, error)
    assert torch.equal(error.grad, torch.ones(2))


def test_errors_of_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(samples,\), got \(4, 2\)"):
        sft_loss(torch.zeros(4, 2))
