"""The paired bootstrap, by hand where it can be worked out, and against its own definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.records.bootstrap import paired_bootstrap

NAN = float("nan")


def interval(difference: torch.Tensor, clusters: torch.Tensor | None = None, **settings: float):
    return paired_bootstrap(difference, clusters, generator=generator_from("bootstrap"), **settings)


def test_constant_difference_has_no_spread():
    found = interval(torch.full((5, 3), 0.25))
    assert (found.mean, found.low, found.high) == (0.25, 0.25, 0.25)


def test_two_prompts_by_hand():
    # The resampled mean is 0, 1/2 or 1 with probability 1/4, 1/2, 1/4.
    difference = torch.tensor([[0.0], [1.0]])
    assert interval(difference).low == 0
    assert interval(difference).high == 1
    half = interval(difference, level=0.4)
    assert (half.mean, half.low, half.high) == (0.5, 0.5, 0.5)


def test_equals_numpy_cluster_bootstrap():
    rng = np.random.default_rng(0)
    difference = rng.normal(0.1, 1, (30, 1)) + rng.normal(0, 0.5, (30, 4))
    means = [difference[rng.integers(30, size=30)].mean() for _ in range(20000)]
    found = interval(torch.from_numpy(difference), resamples=20000)
    assert found.mean == pytest.approx(difference.mean())
    assert [found.low, found.high] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)


def test_uneven_clusters_weigh_by_their_videos():
    difference = torch.tensor([1.0, 1.0, 1.0, 0.0])
    found = interval(difference, torch.tensor([7, 7, 7, 2]), level=0.4)
    assert (found.mean, found.low, found.high) == (0.75, 0.75, 0.75)


def test_order_of_prompts_and_seeds_does_not_matter():
    difference = torch.randint(-8, 9, (20, 4), generator=generator_from("values")) / 8
    shuffled = difference[torch.randperm(20, generator=generator_from("rows"))][:, [2, 0, 3, 1]]
    assert interval(difference) == interval(shuffled)
    assert interval(difference) == interval(difference.flatten(), torch.arange(20).repeat_interleave(4))


def test_interval_covers_the_truth_and_resampling_videos_does_not():
    """Where prompts differ and seeds hardly do, resampling prompts covers about 95 %, resampling videos less."""
    generator = generator_from("worlds")
    covered = naive = 0
    for _ in range(200):
        difference = 0.3 + torch.randn(40, 1, generator=generator) + 0.2 * torch.randn(40, 4, generator=generator)
        found = paired_bootstrap(difference, resamples=400, generator=generator)
        single = paired_bootstrap(difference.flatten(), torch.arange(160), resamples=400, generator=generator)
        covered += found.low <= 0.3 <= found.high
        naive += single.low <= 0.3 <= single.high
    assert 0.90 <= covered / 200 <= 0.98
    assert naive / 200 < 0.80


def test_failed_pairs_are_left_out_not_zero():
    difference = torch.tensor([[1.0, NAN], [1.0, 1.0], [NAN, NAN]])
    assert interval(difference).mean == interval(difference).low == 1


@pytest.mark.parametrize(
    ("difference", "clusters", "settings", "message"),
    [
        (torch.ones(1, 9), None, {}, "at least 2 prompts"),
        (torch.full((3, 2), NAN), None, {}, "at least 2 prompts"),
        (torch.ones(4), None, {}, "prompts, seeds"),
        (torch.ones(4), torch.zeros(3), {}, "one shape"),
        (torch.ones(4, 2), None, {"level": 1.0}, "level"),
    ],
)
def test_refusals(difference, clusters, settings, message):
    with pytest.raises(ReelignError, match=message):
        interval(difference, clusters, **settings)
