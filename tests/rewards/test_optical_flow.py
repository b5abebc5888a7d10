"""Optical flow finds shifts that are known."""

from __future__ import annotations

import pytest
import torch

from reelign.errors import ReelignError
from reelign.rewards.optical_flow import lucas_kanade
from rewards.textures import texture


@pytest.mark.parametrize("shift", [(0.5, -0.25), (1.3, 0.7), (3.0, 4.0), (-6.0, 2.5)])
def test_a_known_shift_is_found(shift: tuple[float, float]) -> None:
    right, down = shift
    first = texture(64, 96)[None, None]
    second = texture(64, 96, right=right, down=down)[None, None]
    flow = lucas_kanade(first, second)
    assert flow.shape == (1, 2, 64, 96)
    error = (flow - torch.tensor(shift).view(1, 2, 1, 1)).norm(dim=1)
    assert error.median() < 0.06
    assert error.mean() < 0.1


def test_one_part_that_moves_is_told_from_the_rest() -> None:
    still, gone = texture(64, 64), texture(64, 64, right=2.0)
    half = torch.arange(64) < 32
    flow = lucas_kanade(still[None, None], torch.where(half, still, gone)[None, None])[0, 0]
    assert flow[:, :24].abs().median() < 0.05
    assert abs(flow[:, 40:].median() - 2) < 0.1


def test_what_has_no_texture_does_not_move() -> None:
    grey = torch.full((2, 1, 32, 40), 0.5)
    assert torch.equal(lucas_kanade(grey, grey), torch.zeros(2, 2, 32, 40))
    noise = torch.rand(2, 1, 32, 40, generator=torch.Generator().manual_seed(0)) / 255
    assert lucas_kanade(grey + noise[:1], grey + noise[1:]).abs().mean() < 0.1


def test_each_pair_of_a_batch_stands_alone() -> None:
    first = texture(32, 32).expand(2, 1, -1, -1)
    second = torch.stack([texture(32, 32, right=1.0), texture(32, 32, down=-1.0)])[:, None]
    together = lucas_kanade(first, second)
    for number in range(2):
        alone = lucas_kanade(first[number : number + 1], second[number : number + 1])
        torch.testing.assert_close(together[number], alone[0], atol=1e-4, rtol=0)


def test_images_of_other_shapes_are_refused() -> None:
    with pytest.raises(ReelignError, match=r"got \(1, 1, 32, 32\) and \(1, 1, 32, 40\)"):
        lucas_kanade(torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 40))
    with pytest.raises(ReelignError, match="one size"):
        lucas_kanade(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32))
