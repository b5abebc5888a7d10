"""The canonical flow's identities."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reelign.diffusion.flow import add_noise, latents_from_velocity, noise_from_velocity, per_sample, velocity_target


@pytest.fixture
def path() -> tuple[Tensor, Tensor, Tensor]:
    """Latents, noise and a sigma per sample, both ends included."""
    chance = torch.Generator().manual_seed(0)
    shape = (4, 3, 2, 5, 6)
    sigma = torch.tensor([0.0, 0.3, 0.8, 1.0], dtype=torch.float64)
    latents = torch.randn(shape, generator=chance, dtype=torch.float64)
    return latents, torch.randn(shape, generator=chance, dtype=torch.float64), sigma


def test_sigma_0_is_clean_and_sigma_1_is_noise(path: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, noise, sigma = path
    noisy = add_noise(latents, noise, sigma)
    assert torch.equal(noisy[0], latents[0])
    assert torch.equal(noisy[3], noise[3])
    torch.testing.assert_close(noisy[1], 0.7 * latents[1] + 0.3 * noise[1])


def test_velocity_gives_back_latents_and_noise(path: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, noise, sigma = path
    noisy, velocity = add_noise(latents, noise, sigma), velocity_target(latents, noise)
    torch.testing.assert_close(latents_from_velocity(noisy, velocity, sigma), latents)
    torch.testing.assert_close(noise_from_velocity(noisy, velocity, sigma), noise)


def test_velocity_is_the_derivative_of_the_path(path: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, noise, _ = path
    low, high = torch.full((4,), 0.4, dtype=torch.float64), torch.full((4,), 0.6, dtype=torch.float64)
    slope = (add_noise(latents, noise, high) - add_noise(latents, noise, low)) / 0.2
    torch.testing.assert_close(slope, velocity_target(latents, noise))


def test_sigma_must_come_one_per_sample() -> None:
    with pytest.raises(ValueError, match=r"one value per sample, \(4,\), got \(3,\)"):
        per_sample(torch.zeros(3), torch.zeros(4, 2))
