"""Truncated gradients against derivatives worked out by hand on a linear denoiser.

With velocity = w·z an Euler step multiplies by 1 + d·w, d = sigma' - sigma, so that

    z_N = z_0 · Π (1 + d_i·w)    and    dz_N/dw through the last K steps = z_N · Σ_{last K} d_i / (1 + d_i·w)
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from reelign.diffusion.steps import DDIM, Euler, step_noise
from reelign.diffusion.truncation import (
    LastSteps,
    NoisyStep,
    OneStep,
    RandomSteps,
    Renoised,
    Route,
    StepFunction,
    run,
    staged_backward,
    starting_at,
    through,
    traced,
)
from reelign.errors import ReelignError

SIGMAS = torch.tensor([1.0, 0.8, 0.5, 0.3, 0.1, 0.0])
SLOPE = 0.7
DELTAS = SIGMAS.diff().tolist()


class Linear(nn.Module):
    """velocity = w·z, counting the calls that have a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(SLOPE))
        self.graded = self.plain = 0

    def forward(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        found = self.slope * noisy
        self.graded += found.requires_grad
        self.plain += not found.requires_grad
        return found


def steps_of(model: Linear, sigmas: Tensor = SIGMAS) -> StepFunction:
    return lambda noisy, index: Euler()(model, noisy, sigmas[index], sigmas[index + 1], None)


def start() -> Tensor:
    return torch.full((1, 1, 1, 1, 1), 2.0)


def by_hand(graded: int) -> tuple[float, float]:
    """The latents after all steps, and their derivative with respect to the slope."""
    end = 2.0 * math.prod(1 + each * SLOPE for each in DELTAS)
    return end, end * sum(each / (1 + each * SLOPE) for each in DELTAS[len(DELTAS) - graded :])


@pytest.mark.parametrize("graded", [1, 2, 5])
@pytest.mark.parametrize("staged", [False, True])
def test_the_gradient_is_that_of_the_last_steps_alone(graded: int, staged: bool) -> None:
    model = Linear()
    step, chance = steps_of(model), torch.Generator().manual_seed(0)
    route = LastSteps(steps=graded).route(SIGMAS, chance)
    assert (route.prefix, route.steps) == (5 - graded, 5)
    noisy = run(step, start(), route.prefix)
    if staged:
        trace = traced(step, noisy, route.prefix, graded)
        staged_backward(step, trace, torch.ones_like(trace.latents))
        latents = trace.latents
    else:
        latents = through(step, noisy, route.prefix, graded)
        latents.sum().backward()
    end, slope = by_hand(graded)
    assert latents.item() == pytest.approx(end, rel=1e-6)
    assert model.slope.grad is not None
    assert model.slope.grad.item() == pytest.approx(slope, rel=1e-5)
    assert (model.graded, model.plain) == (graded, 5 if staged else 5 - graded)


def test_staged_is_the_whole_chain_with_noise_and_a_model_of_layers() -> None:
    """No hand can do this one: autograd over the whole chain, in float64."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    sigmas, noisy = SIGMAS.double(), torch.randn(2, 1, 1, 3, 4, dtype=torch.float64)

    def step(latents: Tensor, index: int) -> Tensor:
        fresh = step_noise(tuple(latents.shape), [1, 2], index, "cpu").double()
        return DDIM(eta=1.0)(lambda z, _: model(z), latents, sigmas[index], sigmas[index + 1], fresh)

    whole = through(step, run(step, noisy, 2), 2, 3)
    # The step hands out fp32 velocities, as samplers do; both ways see the same rounding.
    wanted = torch.autograd.grad(whole.sin().sum(), list(model.parameters()))
    trace = traced(step, run(step, noisy, 2), 2, 3)
    assert torch.equal(trace.latents, whole)
    leaf = trace.latents.detach().requires_grad_()
    leaf.sin().sum().backward()
    assert leaf.grad is not None
    staged_backward(step, trace, leaf.grad)
    for parameter, each in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, each, rtol=1e-6, atol=1e-9)


def test_random_truncation_draws_every_length_and_nothing_else() -> None:
    chance = torch.Generator().manual_seed(0)
    drawn = {RandomSteps(most=3).route(SIGMAS, chance).graded for _ in range(60)}
    assert drawn == {1, 2, 3}
    assert {RandomSteps().route(SIGMAS, chance).graded for _ in range(200)} == {1, 2, 3, 4, 5}


def test_one_step_ends_with_the_estimate_of_the_clean_latents() -> None:
    model = Linear()
    seen = set()
    chance = torch.Generator().manual_seed(0)
    for _ in range(40):
        route = OneStep(window=(0.4, 0.8)).route(SIGMAS, chance)  # the steps 2 and 3 of 5
        assert route.estimate
        seen.add(route.steps)
    assert seen == {3, 4}
    route = Route(torch.tensor([1.0, 0.8, 0.5, 0.0]), 1, estimate=True)
    noisy = run(steps_of(model, route.sigmas), start(), route.prefix)
    latents = through(steps_of(model, route.sigmas), noisy, route.prefix, 1)
    latents.sum().backward()
    at = 2.0 * (1 - 0.2 * SLOPE) * (1 - 0.3 * SLOPE)
    assert latents.item() == pytest.approx(at - 0.5 * SLOPE * at, rel=1e-6)  # z - sigma·velocity
    assert model.slope.grad is not None
    assert model.slope.grad.item() == pytest.approx(-0.5 * at, rel=1e-6)


def test_a_noisy_route_ends_behind_its_one_graded_step() -> None:
    chance, ends = torch.Generator().manual_seed(0), {}
    for _ in range(40):
        route = NoisyStep(window=(0.6, 1.0)).route(SIGMAS, chance)  # the steps 3 and 4 of 5
        assert route.graded == 1
        ends[route.steps] = (torch.equal(route.sigmas, SIGMAS[: route.steps + 1]), route.noisy)
    assert ends == {4: (True, True), 5: (True, False)}  # behind the last there is no noise


def test_renoising_runs_the_whole_schedule_first() -> None:
    route = Renoised(times=3).route(SIGMAS, torch.Generator())
    assert (route.prefix, route.graded, route.renoisings) == (5, 1, 3)


def test_a_schedule_begins_where_a_video_was_noised_to() -> None:
    torch.testing.assert_close(starting_at(SIGMAS, 0.55), SIGMAS[2:])
    with pytest.raises(ReelignError, match=r"none begins near the level 0\.01"):
        starting_at(SIGMAS, 0.01)


def test_more_steps_than_the_schedule_has_are_refused() -> None:
    chance = torch.Generator()
    with pytest.raises(ReelignError, match=r"gradient\.steps=6 asks .* schedule's 5"):
        LastSteps(steps=6).route(SIGMAS, chance)
    with pytest.raises(ReelignError, match=r"gradient\.most=9"):
        RandomSteps(most=9).route(SIGMAS, chance)
    with pytest.raises(ReelignError, match="holds none of the schedule's 5 steps"):
        OneStep(window=(0.0, 0.05)).route(SIGMAS, chance)


@pytest.mark.parametrize("kind", [LastSteps, RandomSteps, Renoised])
def test_impossible_settings_are_refused(kind: type) -> None:
    word = {LastSteps: "steps", RandomSteps: "most", Renoised: "times"}[kind]
    with pytest.raises(ValueError, match=f"{word} must be at least 1"):
        kind(**{word: 0})
    with pytest.raises(ValueError, match="window must be"):
        OneStep(window=(0.9, 0.2))
    with pytest.raises(ValueError, match="window must be"):
        NoisyStep(window=(0.0, 1.2))
