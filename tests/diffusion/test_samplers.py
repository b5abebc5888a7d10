"""The Euler sampler against paths whose end is known, and noise that belongs to its seed."""

from __future__ import annotations

import torch
from torch import Tensor

from reelign.diffusion.flow import velocity_target
from reelign.diffusion.samplers import initial_noise, sample_euler

SHAPE = (2, 3, 2, 4, 4)


def test_euler_is_exact_on_straight_paths() -> None:
    chance = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(SHAPE, generator=chance), torch.randn(SHAPE, generator=chance)
    sigmas = torch.tensor([1.0, 0.7, 0.65, 0.2, 0.0])
    found = sample_euler(lambda _, __: velocity_target(latents, noise), noise, sigmas)
    torch.testing.assert_close(found, latents, rtol=0, atol=2e-6)


def test_euler_converges_at_first_order_to_the_closed_form_of_gaussian_data() -> None:
    """For data N(0, s²) the flow keeps z / sd(sigma), so noise ends at s · noise."""
    spread = 0.5

    def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
        level = sigma.reshape(-1, 1, 1, 1, 1)
        variance = (1 - level) ** 2 * spread**2 + level**2
        return noisy * (level - (1 - level) * spread**2) / variance

    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    errors = []
    for steps in (50, 100, 200):
        found = sample_euler(velocity, noise, torch.linspace(1, 0, steps + 1))
        errors.append(float((found - spread * noise).norm() / (spread * noise).norm()))
    assert errors[2] < 0.01
    assert 1.8 < errors[0] / errors[1] < 2.2
    assert 1.8 < errors[1] / errors[2] < 2.2


def test_every_sample_is_told_the_level_it_stands_at_and_each_step_is_announced() -> None:
    seen: list[list[float]] = []
    ticks: list[int] = []

    def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
        seen.append(sigma.tolist())
        return torch.zeros_like(noisy)

    sample_euler(velocity, torch.zeros(SHAPE), torch.tensor([1.0, 0.5, 0.0]), on_step=lambda: ticks.append(1))
    assert seen == [[1.0, 1.0], [0.5, 0.5]]
    assert len(ticks) == 2


def test_integration_runs_in_fp32_whatever_the_model_computes_in() -> None:
    found = sample_euler(lambda z, _: z.bfloat16(), torch.ones(SHAPE).bfloat16(), torch.tensor([1.0, 0.5]))
    assert found.dtype == torch.float32


def test_noise_depends_on_its_own_seed_and_not_on_the_batch() -> None:
    together = initial_noise((3, *SHAPE[1:]), [7, 8, 9], "cpu")
    assert torch.equal(together[1:2], initial_noise((1, *SHAPE[1:]), [8], "cpu"))
    assert torch.equal(together.flip(0), initial_noise((3, *SHAPE[1:]), [9, 8, 7], "cpu"))
    assert not torch.equal(together[0], together[1])
