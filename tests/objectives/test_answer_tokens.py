"""The surprise at an answer's tokens: by hand, its limits, and the sign of its gradient."""

from __future__ import annotations

import math

import pytest
import torch

from reelign.errors import ReelignError
from reelign.objectives import answer_token_loss


def test_the_surprise_by_hand() -> None:
    # Odds 1 : 3 of two tokens, and a model that knows nothing of four.
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, math.log(3.0)]])
    loss = answer_token_loss(logits, torch.tensor([1, 0]), torch.tensor([1.0, 2.0]))
    torch.testing.assert_close(loss, torch.tensor([-math.log(0.75), -2 * math.log(0.25)]))
    nothing = answer_token_loss(torch.zeros(1, 4), torch.tensor([2]), torch.ones(1))
    assert nothing.item() == pytest.approx(math.log(4))


def test_the_gradient_raises_the_answer_and_a_weight_of_0_has_none() -> None:
    logits = torch.zeros(2, 4, requires_grad=True)
    answer_token_loss(logits, torch.tensor([2, 1]), torch.tensor([3.0, 0.0])).sum().backward()
    assert logits.grad is not None
    # weight · (softmax − one at the token)
    torch.testing.assert_close(logits.grad[0], 3 * (torch.full((4,), 0.25) - torch.eye(4)[2]))
    assert torch.equal(logits.grad[1], torch.zeros(4))


def test_half_precision_is_summed_in_float32() -> None:
    logits = torch.zeros(1, 50_000, dtype=torch.bfloat16)
    loss = answer_token_loss(logits, torch.tensor([7]), torch.ones(1))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(50_000), rel=1e-6)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ReelignError, match="do not fit tokens"):
        answer_token_loss(torch.zeros(2, 4), torch.tensor([1]), torch.ones(1))
