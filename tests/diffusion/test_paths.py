"""Each family's path: its ends, its training levels and what its model is fed, against diffusers' schedulers."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, DDIMScheduler, EDMEulerScheduler, EulerDiscreteScheduler
from torch import Tensor

from reelign.diffusion.flow import add_noise, latents_from_velocity, velocity_target
from reelign.diffusion.paths import DDPM, EDM, FlowPath, RectifiedFlow
from reelign.diffusion.samplers import sample_euler

SHAPE = (4, 3, 2, 4, 5)
TABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
MODELSCOPE = DDIMScheduler(**TABLE, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
COGVIDEOX = CogVideoXDDIMScheduler(
    **TABLE, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
)
EPSILON = DDPM(MODELSCOPE.alphas_cumprod, "epsilon")
ZERO_SNR = DDPM(COGVIDEOX.alphas_cumprod, "v")
PATHS = {"flow": RectifiedFlow(), "epsilon": EPSILON, "zero_snr": ZERO_SNR, "edm": EDM()}


def normal(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_a_perfect_model_has_no_error_and_round_trips_close(path: FlowPath) -> None:
    latents, noise = normal(0), normal(1)
    sigma = path.training_sigmas(torch.tensor([0.001, 0.4, 0.7, 0.9999]))
    noisy, velocity = add_noise(latents, noise, sigma), velocity_target(latents, noise)
    output = path.output(velocity, noisy, sigma)
    torch.testing.assert_close(path.velocity(output, noisy, sigma), velocity, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(latents_from_velocity(noisy, velocity, sigma), latents, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("path", "scheduler"), [(EPSILON, MODELSCOPE), (ZERO_SNR, COGVIDEOX)], ids=["eps", "zero_snr"])
def test_the_model_is_fed_and_asked_what_its_scheduler_trains(
    path: DDPM, scheduler: DDIMScheduler | CogVideoXDDIMScheduler
) -> None:
    latents, noise = normal(0), normal(1)
    timesteps = torch.tensor([0, 1, 500, 999])
    sigma = path.sigmas[timesteps]
    noisy = add_noise(latents, noise, sigma)
    fed = scheduler.add_noise(latents, noise, timesteps)
    torch.testing.assert_close(path.model_input(noisy, sigma), fed, rtol=1e-5, atol=1e-5)
    native = noise if path is EPSILON else scheduler.get_velocity(latents, noise, timesteps)
    torch.testing.assert_close(path.output(velocity_target(latents, noise), noisy, sigma), native, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("path", [EPSILON, ZERO_SNR], ids=["eps", "zero_snr"])
def test_every_level_of_the_table_finds_its_timestep(path: DDPM) -> None:
    assert path.timestep(path.sigmas).tolist() == list(range(1000))
    between = (path.sigmas[:-1] + path.sigmas[1:]) / 2
    assert ((path.timestep(between) - torch.arange(999)).abs() <= 1).all()
    assert path.timestep(torch.tensor([0.0, 1.0])).tolist() == [0, 999]


@pytest.mark.parametrize("path", [EPSILON, ZERO_SNR], ids=["eps", "zero_snr"])
def test_uniform_quantiles_train_every_timestep_equally(path: DDPM) -> None:
    quantiles = (torch.arange(3000) + 0.5) / 3000
    assert path.timestep(path.training_sigmas(quantiles)).bincount().tolist() == [3] * 1000
    ends = path.training_sigmas(torch.tensor([0.0, 1.0]))
    assert ends.tolist() == [path.sigmas[0], path.sigmas[-1]]


def test_a_flow_trains_on_the_quantiles_themselves_and_needs_no_ends() -> None:
    path, quantiles, noise = RectifiedFlow(), torch.rand(4), normal(0)
    assert torch.equal(path.training_sigmas(quantiles), quantiles)
    assert path.start(noise, torch.tensor(1.0)) is noise
    assert path.finish(noise, torch.tensor(0.0)) is noise
    assert path.native_weight(quantiles).tolist() == [1.0] * 4


def test_edm_trains_on_a_log_normal_of_its_own_noise() -> None:
    sigma = EDM(mean=-1.2, std=1.2).training_sigmas((torch.arange(20_000) + 0.5).double() / 20_000)
    logs = (sigma / (1 - sigma)).log()
    assert float(logs.mean()) == pytest.approx(-1.2, abs=1e-3)
    assert float(logs.std()) == pytest.approx(1.2, abs=1e-3)
    clean = EDM(mean=0.7, std=1.6).clean_sigmas(2)
    assert (clean / (1 - clean)).log().tolist() == pytest.approx([0.7 - 1.6 * 3.0902] * 2, abs=1e-3)
    ends = EDM().training_sigmas(torch.tensor([0.0, 1.0]))
    assert ends.tolist() == [0.0, 1.0]


def test_zero_terminal_snr_starts_at_pure_noise_and_the_plain_table_short_of_it() -> None:
    assert float(ZERO_SNR.sigmas[-1]) == 1
    assert 0.93 < float(EPSILON.sigmas[-1]) < 0.94
    noise, sigma = normal(0), EPSILON.sigmas[981]
    bar = float(MODELSCOPE.alphas_cumprod[981])
    torch.testing.assert_close(EPSILON.start(noise, sigma) * (math.sqrt(bar) + math.sqrt(1 - bar)), noise)
    assert torch.equal(ZERO_SNR.start(noise, ZERO_SNR.sigmas[-1]), noise)
    # The last level is called clean: what the sampler leaves there in the model's own scale is the video.
    torch.testing.assert_close(EPSILON.finish(EPSILON.start(noise, sigma), sigma), noise)


def test_an_epsilon_table_with_zero_terminal_snr_is_refused() -> None:
    with pytest.raises(ValueError, match="zero terminal SNR"):
        DDPM(COGVIDEOX.alphas_cumprod, "epsilon")


def test_a_table_that_does_not_decrease_is_refused() -> None:
    with pytest.raises(ValueError, match="decrease"):
        DDPM(torch.tensor([0.5, 0.9]), "v")


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # diffusers' Euler scheduler and NumPy 2
@pytest.mark.parametrize("kind", ["stable_video_diffusion", "karras"])
def test_euler_on_an_edm_path_equals_diffusers_edm_samplers(kind: str) -> None:
    """A made-up network, so that only path and sampler are compared."""
    if kind == "karras":
        scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=1.0)
    else:
        scheduler = EulerDiscreteScheduler(
            **TABLE, prediction_type="v_prediction", use_karras_sigmas=True, sigma_min=0.002, sigma_max=700.0,
            timestep_type="continuous", timestep_spacing="trailing",
        )  # fmt: skip
    sign = -1 if kind == "karras" else 1

    def network(fed: Tensor) -> Tensor:
        return torch.tanh(fed) + 0.1 * fed

    noise, path = normal(0), EDM()
    scheduler.set_timesteps(8)
    x = noise * scheduler.sigmas[0]
    for timestep in scheduler.timesteps:
        x = scheduler.step(network(scheduler.scale_model_input(x, timestep)), timestep, x).prev_sample

    def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
        return path.velocity(sign * network(path.model_input(noisy, sigma)), noisy, sigma)

    sigmas = scheduler.sigmas / (1 + scheduler.sigmas)
    found = path.finish(sample_euler(velocity, path.start(noise, sigmas[0]), sigmas), sigmas[-1])
    torch.testing.assert_close(found, x, rtol=2e-5, atol=2e-5)
