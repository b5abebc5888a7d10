"""Distributions of sigma against their moments and an independent shift."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from reelign.diffusion.noise_levels import Distribution, sample_sigmas, shift_sigma
from reelign.diffusion.seeds import generator_from, seed_from

COUNT = 200_000


def draw(distribution: Distribution, shift: float = 1.0, seed: int = 0, count: int = COUNT) -> np.ndarray:
    chance = torch.Generator().manual_seed(seed)
    return sample_sigmas(count, distribution, shift=shift, generator=chance).double().numpy()


def test_uniform_has_the_moments_of_a_uniform() -> None:
    sigma = draw("uniform")
    assert sigma.mean() == pytest.approx(1 / 2, abs=0.003)
    assert sigma.var() == pytest.approx(1 / 12, abs=0.001)


def test_logit_normal_is_the_sigmoid_of_a_standard_normal() -> None:
    sigma = draw("logit_normal")
    logits = np.log(sigma) - np.log1p(-sigma)
    assert logits.mean() == pytest.approx(0, abs=0.01)
    assert logits.std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("distribution", get_args(Distribution))
@pytest.mark.parametrize("shift", [0.5, 3.0])
def test_shift_multiplies_the_odds_of_noise(distribution: Distribution, shift: float) -> None:
    plain, shifted = draw(distribution, count=500), draw(distribution, shift, count=500)
    odds = shift * plain / (1 - plain)
    np.testing.assert_allclose(shifted, odds / (1 + odds), rtol=1e-4)


def test_shift_keeps_both_ends() -> None:
    assert shift_sigma(torch.tensor([0.0, 0.5, 1.0]), 3.0).tolist() == [0.0, 0.75, 1.0]


@pytest.mark.parametrize("distribution", get_args(Distribution))
def test_levels_stay_in_range_and_belong_to_their_seed(distribution: Distribution) -> None:
    sigma = draw(distribution, 5.0)
    assert 0 <= sigma.min() < sigma.max() <= 1
    assert np.array_equal(sigma, draw(distribution, 5.0))
    assert not np.array_equal(sigma, draw(distribution, 5.0, seed=1))


def test_an_unknown_distribution_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"uniform.*logit_normal.*'cosine'"):
        sample_sigmas(1, "cosine", shift=1.0, generator=torch.Generator())  # type: ignore[arg-type]


def test_seeds_are_the_same_on_every_machine_and_tell_their_parts_apart() -> None:
    assert seed_from(0, "epoch", 1) == seed_from(0, "epoch", 1)
    assert len({seed_from(1, 23), seed_from(12, 3), seed_from("1", "2", "3"), seed_from(123)}) == 4
    assert 0 <= seed_from("a") < 2**63
    same = [torch.rand(3, generator=generator_from("a", 1)) for _ in range(2)]
    assert torch.equal(*same)
