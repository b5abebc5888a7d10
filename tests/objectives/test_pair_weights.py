"""VideoDPO's re-weighting against np.histogram."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reelign.objectives import histogram_weights

SCORES = np.random.default_rng(0).normal(size=(200, 2)).cumsum(axis=1)


@pytest.mark.parametrize("alpha", [0.3, 0.72, 1.0])
def test_weights_are_the_inverse_of_the_histogram(alpha: float) -> None:
    counts, edges = np.histogram(SCORES, bins=20)
    probability = counts[np.clip(np.searchsorted(edges, SCORES, side="right") - 1, 0, 19)] / SCORES.size
    expected = (probability[:, 0] * probability[:, 1]) ** -alpha
    weights = histogram_weights(torch.tensor(SCORES), alpha=alpha)
    np.testing.assert_allclose(weights.numpy(), expected / expected.mean(), rtol=1e-9)


def test_rare_scores_weigh_more_and_the_mean_is_1() -> None:
    scores = torch.tensor([[0.0, 0.0]] * 8 + [[1.0, 0.0]])
    weights = histogram_weights(scores, alpha=1.0, bins=2)
    assert float(weights.mean()) == pytest.approx(1.0)
    assert float(weights[-1] / weights[0]) == pytest.approx(17.0)


def test_alpha_0_and_equal_scores_weigh_all_alike() -> None:
    assert torch.equal(histogram_weights(torch.rand(6, 2), alpha=0.0), torch.ones(6))
    torch.testing.assert_close(histogram_weights(torch.full((6, 2), 0.3), alpha=1.0), torch.ones(6))


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scores must be \(pairs, 2\)"):
        histogram_weights(torch.zeros(4), alpha=1.0)
    with pytest.raises(ValueError, match="alpha must be at least 0"):
        histogram_weights(torch.zeros(4, 2), alpha=-1.0)
