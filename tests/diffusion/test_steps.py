"""Steps of the samplers against diffusers' schedulers, closed forms, and the laws they must keep."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from reelign.diffusion.flow import unit_variance
from reelign.diffusion.paths import DDPM
from reelign.diffusion.steps import DDIM, EDMEuler, Euler, SamplerStep, step_noise

SHAPE = (2, 3, 2, 4, 4)
SPREAD = 0.5


def gaussian_velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
    """Of data N(0, SPREAD²), exactly."""
    level = sigma.reshape(-1, 1, 1, 1, 1)
    variance = (1 - level) ** 2 * SPREAD**2 + level**2
    return noisy * (level - (1 - level) * SPREAD**2) / variance


def sampled(step: SamplerStep, steps: int, count: int = 20_000) -> Tensor:
    chance = torch.Generator().manual_seed(0)
    latents = torch.randn(count, 1, 1, 1, 1, generator=chance)
    sigmas = torch.linspace(1, 0, steps + 1)
    for index in range(steps):
        noise = torch.randn(latents.shape, generator=chance)
        latents = step(gaussian_velocity, latents, sigmas[index], sigmas[index + 1], noise)
    return latents


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim_is_the_schedulers_step(eta: float) -> None:
    scheduler = DDIMScheduler(num_train_timesteps=100, clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(5)
    chance = torch.Generator().manual_seed(1)
    sample, output, noise = (torch.randn(SHAPE, generator=chance) for _ in range(3))
    table = DDPM(scheduler.alphas_cumprod, "epsilon")
    for place in (0, 2):
        now, before = (int(each) for each in scheduler.timesteps[place : place + 2])
        wanted = scheduler.step(output, now, sample, eta=eta, variance_noise=noise).prev_sample
        sigma, next_sigma = table.sigmas[now], table.sigmas[before]

        def velocity(noisy: Tensor, level: Tensor) -> Tensor:
            return table.velocity(output, noisy, level)

        canonical = sample / sum(unit_variance(sigma))
        found = DDIM(eta=eta)(velocity, canonical, sigma, next_sigma, noise)
        torch.testing.assert_close(found * sum(unit_variance(next_sigma)), wanted, rtol=0, atol=2e-5)


def test_without_noise_all_are_eulers_step() -> None:
    noisy = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2))
    for pair in ((1.0, 0.8), (0.5, 0.2), (0.1, 0.0)):
        now, then = torch.tensor(pair)
        wanted = noisy + (then - now) * gaussian_velocity(noisy, now.expand(2))
        for step in (Euler(), DDIM(eta=0), EDMEuler()):
            assert not step.stochastic
            torch.testing.assert_close(step(gaussian_velocity, noisy, now, then, None), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("step", [DDIM(eta=1.0), EDMEuler(churn=0.05)], ids=["ddim", "edm"])
def test_noise_keeps_the_distribution_that_is_sampled(step: SamplerStep) -> None:
    """The exact velocity of a Gaussian gives back its deviation, whatever share of the noise is fresh."""
    assert step.stochastic
    assert float(sampled(step, 400).std()) == pytest.approx(SPREAD, rel=0.02)


def test_edm_adds_noise_as_its_algorithm_says() -> None:
    """On x = latents + s·noise: x̂ = x + √(ŝ² - s²)·S_noise·noise with ŝ = (1 + churn)·s, then x̂ + (s' - ŝ)·d."""
    chance = torch.Generator().manual_seed(3)
    own, noise = torch.randn(SHAPE, generator=chance), torch.randn(SHAPE, generator=chance)
    level, next_level, churn = 2.0, 0.5, 0.4
    raised = (1 + churn) * level
    x = own + (raised**2 - level**2) ** 0.5 * 0.9 * noise
    derivative = 0.3 * x  # d = (x - D(x)) / s for a denoiser that is linear
    wanted = x + (next_level - raised) * derivative

    def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
        # z = x / (1 + s); noise estimate = z + (1 - sigma)·v, so that v = (d - z) / (1 - sigma).
        share = sigma.reshape(-1, 1, 1, 1, 1)
        return (0.3 * noisy / (1 - share) - noisy) / (1 - share)

    now, then = torch.tensor(level / (1 + level)), torch.tensor(next_level / (1 + next_level))
    found = EDMEuler(churn=churn, noise_scale=0.9)(velocity, own / (1 + level), now, then, noise)
    torch.testing.assert_close(found * (1 + next_level), wanted, rtol=1e-5, atol=1e-5)
    pure = EDMEuler(churn=churn)(gaussian_velocity, own, torch.tensor(1.0), torch.tensor(0.9), noise)
    torch.testing.assert_close(pure, Euler()(gaussian_velocity, own, torch.tensor(1.0), torch.tensor(0.9), None))


def test_a_steps_noise_is_its_videos_and_its_own() -> None:
    both = step_noise(SHAPE, [5, 6], 0, "cpu")
    assert torch.equal(step_noise(SHAPE, [6], 0, "cpu")[0], both[1])
    assert not torch.equal(step_noise(SHAPE, [6], 1, "cpu")[0], both[1])
    initial = torch.randn(SHAPE[1:], generator=torch.Generator().manual_seed(5))
    assert not torch.equal(both[0], initial)


@pytest.mark.parametrize(
    ("kind", "settings", "word"),
    [(DDIM, {"eta": 1.5}, "eta"), (EDMEuler, {"churn": 0.5}, "churn"), (EDMEuler, {"noise_scale": -1}, "noise_scale")],
)
def test_impossible_settings_are_refused(kind: type, settings: dict[str, float], word: str) -> None:
    with pytest.raises(ValueError, match=f"^{word} must be"):
        kind(**settings)
