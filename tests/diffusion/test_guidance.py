"""Reward guidance against Gaussian data, whose tilted path is known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from reelign.diffusion.guidance import (
    GuidanceLog,
    RewardGuidance,
    guidance_factor,
    guided,
    reward_gradient,
    steered,
)
from reelign.diffusion.predictions import output_from_velocity, velocity_from_output
from reelign.diffusion.samplers import VelocityFunction, sample_euler
from reelign.errors import ReelignError

MEAN, SPREAD, SLOPE, CURVE = 0.4, 0.7, 0.9, -0.8


def gaussian_velocity(mean: float, variance: float) -> VelocityFunction:
    """E[noise - latents | z] for latents N(mean, variance) and independent noise, by linear regression on z.

    cov(noise - latents, z) = sigma - (1 - sigma)·variance, var z = (1 - sigma)²·variance + sigma².
    """

    def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
        level = sigma.reshape(-1, 1, 1, 1, 1)
        slope = (level - (1 - level) * variance) / ((1 - level) ** 2 * variance + level**2)
        return -mean + slope * (noisy - (1 - level) * mean)

    return velocity


def soft_value(noisy: Tensor, sigma: Tensor) -> dict[str, Tensor]:
    """log E[exp(a·x + c·x²/2) | z], summed over elements: the exact soft reward on noisy latents.

    x given z is Gaussian of precision P = 1/s² + (1-σ)²/σ² and mean m = (mean/s² + (1-σ)z/σ²)/P, and of a Gaussian
    E exp(a·x + c·x²/2) = √(P/(P-c)) · exp( (P·m + a)²/(2(P-c)) - P·m²/2 ).
    """
    level = sigma.reshape(-1, 1, 1, 1, 1)
    precision = 1 / SPREAD**2 + (1 - level) ** 2 / level**2
    pulled = MEAN / SPREAD**2 + (1 - level) * noisy / level**2
    value = (pulled + SLOPE) ** 2 / (2 * (precision - CURVE)) - pulled**2 / (2 * precision)
    return {"VQ": value.flatten(1).sum(dim=1)}


def noise_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_a_weight_of_one_with_the_exact_soft_reward_samples_the_tilted_data() -> None:
    """p·e^r for N(m, s²) and r = a·x + c·x²/2 is Gaussian of precision 1/s² - c and mean (m/s² + a)/(1/s² - c)."""
    precision = 1 / SPREAD**2 - CURVE
    mean, deviation = (MEAN / SPREAD**2 + SLOPE) / precision, precision**-0.5
    assert (round(mean, 3), round(deviation, 3)) == (0.604, 0.593)  # far from 0.4 and 0.7
    sigmas, log = torch.linspace(1, 0, 501), GuidanceLog()
    velocity = steered(
        gaussian_velocity(MEAN, SPREAD**2), soft_value, {"VQ": 1.0}, sigmas, RewardGuidance(max_factor=1e9), log=log
    )
    found = sample_euler(velocity, noise_of(1, 1, 1, 150, 200), sigmas)
    # 30,000 samples: a standard error of 0.0034 of the mean and 0.0024 of the deviation.
    assert float(found.mean()) == pytest.approx(mean, abs=0.012)
    assert float(found.std()) == pytest.approx(deviation, abs=0.012)
    assert log.sentences() == []


def test_the_guided_velocity_is_the_tilted_data_s_own_at_every_level() -> None:
    precision = 1 / SPREAD**2 - CURVE
    tilted = gaussian_velocity((MEAN / SPREAD**2 + SLOPE) / precision, 1 / precision)
    settings = RewardGuidance(max_factor=1e9)
    noisy = noise_of(4, 1, 2, 3, 3).double()
    sigma = torch.tensor([0.05, 0.4, 0.8, 0.99]).double()
    own = gaussian_velocity(MEAN, SPREAD**2)(noisy, sigma)
    gradient = reward_gradient(soft_value, noisy, sigma, {"VQ": 1.0})
    torch.testing.assert_close(
        guided(own, gradient.double(), sigma, settings), tilted(noisy, sigma), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_a_model_of_epsilon_or_v_is_guided_as_its_own_score_says(prediction: str) -> None:
    """E[noise | z] moves by -sigma·∇r whatever the model says it in; in epsilon's own terms that is its output."""
    noisy, sigma = noise_of(3, 1, 2, 3, 3), torch.tensor([0.2, 0.6, 0.9])
    velocity, gradient = noise_of(3, 1, 2, 3, 3, seed=1), noise_of(3, 1, 2, 3, 3, seed=2)
    before = output_from_velocity(prediction, velocity, noisy, sigma)  # type: ignore[arg-type]
    said = velocity_from_output(prediction, before, noisy, sigma)  # type: ignore[arg-type]
    after = guided(said, gradient, sigma, RewardGuidance(max_factor=1e9))
    level = sigma.reshape(-1, 1, 1, 1, 1)
    noise = output_from_velocity("epsilon", after, noisy, sigma) - output_from_velocity(
        "epsilon", velocity, noisy, sigma
    )
    torch.testing.assert_close(noise, -level * gradient, rtol=1e-4, atol=1e-4)


def linear(noisy: Tensor, sigma: Tensor) -> dict[str, Tensor]:
    return {"VQ": noisy.flatten(1).sum(dim=1), "MQ": noisy.square().flatten(1).sum(dim=1)}


def test_a_batch_may_hold_videos_of_different_weights_also_negative() -> None:
    noisy, sigma = noise_of(3, 2, 2, 3, 3), torch.full((3,), 0.5)
    weights: dict[str, float | Tensor] = {"VQ": torch.tensor([1.0, -2.0, 0.0]), "MQ": 0.5}
    found = reward_gradient(linear, noisy, sigma, weights)
    expected = torch.tensor([1.0, -2.0, 0.0]).reshape(3, 1, 1, 1, 1) + noisy
    torch.testing.assert_close(found, expected)


def test_pure_noise_is_not_guided_and_the_factor_is_clipped() -> None:
    found = guidance_factor(torch.tensor([0.0, 0.5, 0.9, 0.999, 1.0]), max_factor=10)
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 9.0, 10.0, 0.0]))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (RewardGuidance(), [False, True, True, True, True]),
        (RewardGuidance(every=2), [False, True, False, True, False]),
        (RewardGuidance(sigma_range=(0.3, 0.7)), [False, False, True, True, False]),
        (RewardGuidance(sigma_range=(0.3, 0.9), every=2), [False, True, False, True, False]),
    ],
)
def test_which_steps_are_guided(settings: RewardGuidance, expected: list[bool]) -> None:
    sigmas = torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])
    assert settings.guided_steps(sigmas) == expected
    asked: list[float] = []

    def reward(noisy: Tensor, sigma: Tensor) -> dict[str, Tensor]:
        asked.append(round(float(sigma[0]), 3))
        return linear(noisy, sigma)

    velocity = steered(lambda noisy, _: noisy, reward, {"VQ": 1.0}, sigmas, settings, log=GuidanceLog())
    sample_euler(velocity, noise_of(1, 1, 1, 2, 2), sigmas)
    assert asked == [round(level, 3) for level, on in zip(sigmas.tolist(), expected, strict=False) if on]


def test_the_cap_holds_the_term_to_a_share_of_the_velocity_and_keeps_its_direction() -> None:
    velocity, gradient = noise_of(2, 1, 2, 3, 3), noise_of(2, 1, 2, 3, 3, seed=1)
    gradient[0] *= 1e-3  # far below the cap
    sigma = torch.full((2,), 0.5)
    term = velocity - guided(velocity, gradient, sigma, RewardGuidance(max_share=0.25))
    torch.testing.assert_close(term[0], gradient[0], rtol=1e-4, atol=1e-6)
    assert float(term[1].norm() / velocity[1].norm()) == pytest.approx(0.25, rel=1e-5)
    assert float(torch.nn.functional.cosine_similarity(term[1].flatten(), gradient[1].flatten(), dim=0)) > 0.9999


def test_a_gradient_that_is_not_finite_is_skipped_counted_and_said() -> None:
    def broken(noisy: Tensor, sigma: Tensor) -> dict[str, Tensor]:
        rewards = noisy.flatten(1).sum(dim=1)
        factor = torch.tensor([1.0, math.nan]) if float(sigma[0]) == 0.5 else torch.ones(2)
        return {"VQ": rewards * factor}

    sigmas, log = torch.tensor([0.75, 0.5, 0.0]), GuidanceLog()
    settings = RewardGuidance(max_factor=1.0)
    velocity = steered(lambda noisy, _: torch.zeros_like(noisy), broken, {"VQ": 1.0}, sigmas, settings, log=log)
    found = sample_euler(velocity, torch.zeros(2, 1, 1, 2, 2), sigmas)
    # Two guided steps of 0.25 and 0.5 with a factor of 1; the second video has the first alone.
    torch.testing.assert_close(found[:, 0, 0, 0, 0], torch.tensor([0.75, 0.25]))
    assert log.skipped == [(1, 1)]
    assert "1 of 4 reward gradients were not finite" in log.sentences()[0]
    with pytest.warns(UserWarning, match="first in step 2"):
        log.warn()


def test_latents_that_guidance_drives_out_of_the_data_s_range_are_named_with_the_step() -> None:
    sigmas, log = torch.tensor([0.9, 0.6, 0.3, 0.0]), GuidanceLog()
    weights: dict[str, float | Tensor] = {"VQ": torch.tensor([0.0, 0.2, 1.0])}
    velocity = steered(
        lambda noisy, _: torch.zeros_like(noisy), linear, weights, sigmas, RewardGuidance(), log=log, largest=1.5
    )
    sample_euler(velocity, torch.zeros(3, 1, 1, 2, 2), sigmas)
    # Factor 9 at 0.9: an estimate of 8.1·w, 1.62 and 8.1.
    assert log.left == {1: 0, 2: 0}
    assert "of 2 videos out of the data's range, first in step 1" in log.sentences()[0]


def test_a_weight_of_a_dimension_that_the_reward_lacks_is_refused() -> None:
    with pytest.raises(ReelignError, match="no dimension TA; it has VQ, MQ"):
        reward_gradient(linear, noise_of(1, 1, 1, 2, 2), torch.tensor([0.5]), {"TA": 1.0})


@pytest.mark.parametrize("wrong", [{"max_factor": 0.0}, {"every": 0}, {"sigma_range": (0.7, 0.3)}, {"max_share": -1.0}])
def test_settings_without_meaning_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RewardGuidance(**wrong)  # type: ignore[arg-type]
