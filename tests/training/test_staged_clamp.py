"""From unbounded pixels to [0, 1], and the gradient outside."""

from __future__ import annotations

import math

import pytest
import torch

from reelign.training.staged_clamp import SHARPNESS, Clamp, clamp_video, soft_clamp

VALUES = [-0.5, 0.25, 1.5]


@pytest.mark.parametrize(
    ("how", "values", "slopes"),
    [
        ("straight_through", [0.0, 0.25, 1.0], [1.0, 1.0, 1.0]),
        ("hard", [0.0, 0.25, 1.0], [0.0, 1.0, 0.0]),
        ("none", VALUES, [1.0, 1.0, 1.0]),
    ],
)
def test_values_and_slopes(how: Clamp, values: list[float], slopes: list[float]) -> None:
    video = torch.tensor(VALUES, requires_grad=True)
    clamped = clamp_video(video, how)
    clamped.sum().backward()
    assert clamped.tolist() == values
    assert video.grad is not None
    assert video.grad.tolist() == slopes


def test_the_soft_clamp_bends_by_its_closed_form() -> None:
    """At 0: log 2 / k and a slope of a half; in the middle the identity; at 1 the mirror image of 0."""
    video = torch.tensor([0.0, 0.5, 1.0, -0.1, 3.0], dtype=torch.float64, requires_grad=True)
    found = soft_clamp(video)
    found.sum().backward()
    bend = math.log(2) / SHARPNESS
    # log1p(exp(-4)) and its sigmoid: 0.1 below black.
    low = math.log1p(math.exp(-0.1 * SHARPNESS)) / SHARPNESS
    expected = torch.tensor([bend, 0.5, 1 - bend, low, 1.0], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    slopes = torch.tensor([0.5, 1.0, 0.5, 1 / (1 + math.exp(0.1 * SHARPNESS)), 0.0], dtype=torch.float64)
    assert video.grad is not None
    torch.testing.assert_close(video.grad, slopes, rtol=0, atol=1e-8)
    assert clamp_video(video, "soft").equal(found)
