"""What models predict, against the definitions, in every family."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from diffusers import EDMEulerScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reelign.diffusion.flow import add_noise, canonical_sigma, per_sample, unit_variance, velocity_target
from reelign.diffusion.predictions import Prediction, native_weight, output_from_velocity, velocity_from_output

SIGMAS = (0.0, 0.013, 0.3, 0.5, 0.8, 0.9987)
SHAPE = (len(SIGMAS), 3, 2, 4, 5)


@pytest.fixture
def path() -> tuple[Tensor, Tensor, Tensor]:
    chance = torch.Generator().manual_seed(0)
    latents, noise, _ = (torch.randn(SHAPE, generator=chance, dtype=torch.float64) for _ in range(3))
    return latents, noise, torch.tensor(SIGMAS, dtype=torch.float64)


def perfect(prediction: Prediction, latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """What a model without error puts out, from its paper's definition."""
    if prediction == "epsilon":
        return noise
    if prediction == "v":
        # Salimans & Ho: on the circle alpha = cos φ, scale = sin φ; canonical sigma is tan φ / (1 + tan φ).
        angle = per_sample(torch.atan2(sigma, 1 - sigma), latents)
        return angle.cos() * noise - angle.sin() * latents
    return noise - latents


@pytest.mark.parametrize("prediction", get_args(Prediction))
@settings(deadline=None)
@given(level=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_a_perfect_prediction_has_no_error_and_round_trips_close(
    prediction: Prediction, level: float, seed: int
) -> None:
    if prediction == "epsilon":
        level *= 0.999  # at pure noise it says nothing
    chance = torch.Generator().manual_seed(seed)
    latents, noise, output = torch.randn(3, 1, 2, 3, 4, generator=chance, dtype=torch.float64).unbind()
    sigma = torch.tensor([level], dtype=torch.float64)
    noisy = add_noise(latents, noise, sigma)
    velocity = velocity_from_output(prediction, perfect(prediction, latents, noise, sigma), noisy, sigma)
    torch.testing.assert_close(velocity, velocity_target(latents, noise), rtol=1e-9, atol=1e-9)
    there = velocity_from_output(prediction, output, noisy, sigma)
    torch.testing.assert_close(output_from_velocity(prediction, there, noisy, sigma), output)
    back = output_from_velocity(prediction, output, noisy, sigma)
    torch.testing.assert_close(velocity_from_output(prediction, back, noisy, sigma), output)


@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_the_native_error_is_the_weighted_velocity_error(
    path: tuple[Tensor, Tensor, Tensor], prediction: Prediction
) -> None:
    latents, noise, sigma = path
    noisy = add_noise(latents, noise, sigma)
    target = perfect(prediction, latents, noise, sigma)
    output = target + torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    native = (output - target).square().flatten(1).mean(dim=1)
    velocity = velocity_from_output(prediction, output, noisy, sigma)
    error = (velocity - velocity_target(latents, noise)).square().flatten(1).mean(dim=1)
    torch.testing.assert_close(native_weight(prediction, sigma) * error, native)


def test_a_v_model_is_whole_at_pure_noise_where_epsilon_is_not() -> None:
    latents, noise = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0)).unbind()
    sigma = torch.ones(len(SIGMAS))
    # At zero terminal SNR v is minus the latents, and the model alone decides what the video will be.
    velocity = velocity_from_output("v", -latents, noise, sigma)
    torch.testing.assert_close(velocity, noise - latents)
    assert not torch.isfinite(velocity_from_output("epsilon", latents, noise, sigma)).any()
    assert native_weight("v", sigma).tolist() == [1.0] * len(SIGMAS)
    assert native_weight("epsilon", sigma).tolist() == [0.0] * len(SIGMAS)


def test_unit_variance_is_the_inverse_of_the_canonical_level() -> None:
    sigma = torch.linspace(0, 1, 11, dtype=torch.float64)
    alpha, scale = unit_variance(sigma)
    torch.testing.assert_close(alpha.square() + scale.square(), torch.ones_like(sigma))
    torch.testing.assert_close(canonical_sigma(alpha, scale), sigma)
    assert (alpha[0], scale[0], alpha[-1], scale[-1]) == (1, 0, 0, 1)


@pytest.mark.parametrize(("kind", "sign"), [("epsilon", -1), ("v_prediction", 1)])
def test_edms_network_predicts_v_up_to_its_sign(path: tuple[Tensor, Tensor, Tensor], kind: str, sign: int) -> None:
    """Karras et al.'s preconditioning with σ_data = 1, as diffusers writes it: D = c_skip·x + c_out·F(c_in·x)."""
    latents, noise, sigma = path
    noisy = add_noise(latents, noise, sigma)
    output = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scheduler = EDMEulerScheduler(sigma_data=1.0, prediction_type=kind)
    for row in range(1, len(SIGMAS)):
        edm = sigma[row] / (1 - sigma[row])
        x = noisy[row] * (1 + edm)
        velocity = velocity_from_output("v", sign * output[row : row + 1], noisy[row : row + 1], sigma[row : row + 1])
        denoised = scheduler.precondition_outputs(x, output[row], edm)
        torch.testing.assert_close(noisy[row] - sigma[row] * velocity[0], denoised)
        weight = native_weight("v", sigma[row])
        torch.testing.assert_close(weight, (1 + edm**2) / (1 + edm) ** 2)
