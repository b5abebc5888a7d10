"""How much videos differ, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from reelign.recipes.watching.grid import grid
from reelign.recipes.watching.measures import diversity, reduced

CLUSTERS = torch.tensor([0, 0, 1, 1])


def test_diversity_within_and_across_prompts() -> None:
    # Flat videos, so that the distance of two is the difference of their greys.
    videos = torch.tensor([0.1, 0.3, 0.6, 0.6])[:, None, None].expand(4, 3, 5)
    found = diversity(videos, CLUSTERS)
    assert found["diversity_in_prompt"].tolist() == pytest.approx([0.2, 0.2, 0.0, 0.0])
    assert found["diversity_across_prompts"].tolist() == pytest.approx([0.5, 0.3, 0.4, 0.4])


def test_a_video_that_failed_differs_from_nothing() -> None:
    videos = torch.tensor([0.1, 0.3, 0.6, math.nan])[:, None, None].expand(4, 3, 5)
    found = diversity(videos, CLUSTERS)
    assert found["diversity_in_prompt"][:2].tolist() == pytest.approx([0.2, 0.2])
    assert found["diversity_in_prompt"][2:].isnan().all()
    assert found["diversity_across_prompts"][:3].tolist() == pytest.approx([0.5, 0.3, 0.4])


def test_one_seed_has_no_diversity_within() -> None:
    assert list(diversity(torch.rand(3, 8), torch.arange(3))) == ["diversity_across_prompts"]


def test_videos_are_brought_down_by_means() -> None:
    videos = torch.rand(2, 16, 3, 64, 64)
    small = reduced(videos)
    assert small.shape == (2, 3, 8, 32, 32)
    assert small[0, 1, 2, 3, 4] == pytest.approx(float(videos[0, 4:6, 1, 6:8, 8:10].mean()))
    assert reduced(torch.rand(1, 3, 3, 16, 16)).shape == (1, 3, 3, 16, 16)


def test_a_grid_is_even_and_its_tiles_are_not_large() -> None:
    found = grid([[torch.zeros(2, 3, 15, 17)] * 3, [torch.ones(2, 3, 15, 17)] * 3])
    assert found.shape == (2, 3, 2 * (15 + 9), 3 * (17 + 9))
    assert (found[:, :, :4] == 1).all()
    assert (found[:, :, 4:19, 4:21] == 0).all()
    large = grid([[torch.zeros(1, 3, 480, 832)]])
    assert large.shape == (1, 3, 148 + 8, 256 + 8)
