"""DPO on segments against the sum worked in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from reelign.objectives import dpo_loss, segment_dpo_loss, temporal_segments

CHANCE = np.random.default_rng(0)
ERROR, REFERENCE = CHANCE.uniform(0.1, 0.5, (2, 5, 3, 2))
LABEL = np.array([[1, 1, 1], [1, -1, 0], [0, 0, -1], [-1, -1, 1], [0, 1, 0]])


def test_loss_is_the_mean_over_labelled_segments() -> None:
    expected = []
    for pair in range(5):
        terms = []
        for segment in range(3):
            if LABEL[pair, segment]:
                change = ERROR[pair, segment] - REFERENCE[pair, segment]
                terms.append(math.log1p(math.exp(6.0 * LABEL[pair, segment] * (change[0] - change[1]))))
        expected.append(sum(terms) / len(terms))
    loss = segment_dpo_loss(torch.tensor(ERROR), torch.tensor(REFERENCE), torch.tensor(LABEL), beta=12.0)
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-10)
    each = segment_dpo_loss(
        torch.tensor(ERROR), torch.tensor(REFERENCE), torch.tensor(LABEL), beta=torch.full((5,), 12.0).double()
    )
    torch.testing.assert_close(each, loss)


def test_one_segment_is_dpo_and_minus_one_is_the_swapped_pair() -> None:
    error, reference = torch.tensor(ERROR[:, :1]), torch.tensor(REFERENCE[:, :1])
    ones = torch.ones(5, 1)
    loss = segment_dpo_loss(error, reference, ones, beta=3.0)
    torch.testing.assert_close(loss, dpo_loss(error[:, 0], reference[:, 0], beta=3.0))
    swapped = segment_dpo_loss(error, reference, -ones, beta=3.0)
    torch.testing.assert_close(swapped, dpo_loss(error[:, 0].flip(1), reference[:, 0].flip(1), beta=3.0))


def test_each_segment_pulls_its_own_way_and_ties_not_at_all() -> None:
    error = torch.tensor(ERROR, requires_grad=True)
    label = torch.tensor(LABEL)
    loss = segment_dpo_loss(error, error.detach(), label, beta=8.0)
    torch.testing.assert_close(loss, torch.full((5,), math.log(2)).double())
    loss.sum().backward()
    assert error.grad is not None
    assert torch.equal(error.grad[..., 0].sign(), label.double())
    assert torch.equal(error.grad[..., 1].sign(), -label.double())


def test_wrong_segments_are_refused() -> None:
    error = torch.zeros(2, 3, 2)
    with pytest.raises(ValueError, match=r"must both be \(pairs, segments, 2\)"):
        segment_dpo_loss(torch.zeros(2, 2), torch.zeros(2, 2), torch.ones(2, 2), beta=1.0)
    with pytest.raises(ValueError, match=r"label must be .* = \(2, 3\), got \(2, 2\)"):
        segment_dpo_loss(error, error, torch.ones(2, 2), beta=1.0)
    with pytest.raises(ValueError, match="1, -1 or 0"):
        segment_dpo_loss(error, error, torch.full((2, 3), 0.5), beta=1.0)
    with pytest.raises(ValueError, match="holds no preference"):
        segment_dpo_loss(error, error, torch.tensor([[1, 0, 0], [0, 0, 0]]), beta=1.0)


def test_segments_of_time_cover_every_frame_once() -> None:
    masks = temporal_segments(7, 3)
    assert masks.shape == (3, 1, 1, 7, 1, 1)
    assert masks.flatten(1).tolist() == [[1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1, 1]]
    for wrong in (0, 8):
        with pytest.raises(ValueError, match="num_segments must be between 1 and the 7"):
            temporal_segments(7, wrong)
