"""Families learn by more than stored pairs: all weights, their own rollouts judged on the fly, a reward's gradient."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from generators.families import sides
from reelign.generators import Generator, Guidance, VideoSize, load_generator
from reelign.objectives.dpo import DPO
from reelign.training import Draw, LoRA, Policy, load_adapter, velocity_errors
from reelign.training.staged_decode import DecodeSettings, decoded_gradient


@pytest.fixture
def family(own_family: Generator) -> Generator:
    return own_family


def draw(family: Generator, size: VideoSize) -> Draw:
    noise = torch.randn(2, *family.latent_shape(size), generator=torch.Generator().manual_seed(1))
    return Draw(family.path.training_sigmas(torch.tensor([0.3, 0.95])), noise)


def descend(policy: Policy, step: Callable[[], float], rate: float, steps: int) -> list[float]:
    """The loss before each step."""
    optimiser, losses = torch.optim.Adam(policy.parameters.values(), lr=rate), []
    for _ in range(steps):
        optimiser.zero_grad()
        losses.append(step())
        optimiser.step()
        policy.refresh()
    return losses


def test_all_weights_train_and_are_saved_as_from_pretrained_takes_them(
    family: Generator, family_size: VideoSize, tmp_path: Path
) -> None:
    policy, latents = Policy(family, None), torch.zeros(2, *family.latent_shape(family_size))
    (conditioning, _), at = sides(family), draw(family, family_size)

    def step() -> float:
        error = velocity_errors(policy, latents, conditioning, at, weights=("policy",))["policy"].mean()
        error.backward()
        return float(error.detach())

    losses = descend(policy, step, 1e-3, steps=3)
    assert losses == sorted(losses, reverse=True)
    policy.save(tmp_path)
    for name, denoiser in family.denoisers.items():
        plain = type(denoiser).from_pretrained(tmp_path / name)  # type: ignore[attr-defined]
        trained = denoiser.state_dict()
        assert all(torch.equal(tensor, trained[key]) for key, tensor in plain.state_dict().items())
    again = load_generator(family.model)
    with torch.no_grad():
        before = again.velocity(at.noise, at.sigma, conditioning)
        load_adapter(again, tmp_path)
        after = again.velocity(at.noise, at.sigma, conditioning)
        torch.testing.assert_close(after, family.velocity(at.noise, at.sigma, conditioning))
    assert (after - before).abs().max() > 1e-3


def test_dpo_on_its_own_rollouts_prefers_what_was_judged_better(family: Generator, family_size: VideoSize) -> None:
    """The brighter of two candidates is chosen; errors of all four at one draw, before and after three steps."""
    policy, (conditioning, _) = Policy(family, LoRA(rank=4)), sides(family)
    rows, guidance = torch.tensor([0, 0, 1, 1]), Guidance(1.0)
    latents = family.sample(conditioning.take(rows), [1, 2, 3, 4], family_size, steps=2, guidance=guidance)
    with torch.no_grad():
        light = family.decode(latents).flatten(1).mean(dim=1).unflatten(0, (2, 2))
    order = light.argsort(dim=1, descending=True) + torch.tensor([[0], [2]])
    pairs, at = latents[order.flatten()], draw(family, family_size).repeat(2)
    objective = DPO(beta=200.0)

    def step() -> float:
        errors = velocity_errors(policy, pairs, conditioning.take(rows), at)
        found: Tensor = objective(*(errors[name].unflatten(0, (2, 2)) for name in ("policy", "reference"))).mean()
        found.backward()
        return float(found.detach())

    losses = descend(policy, step, 1e-2, steps=3)
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert losses[-1] < losses[0] - 0.05


def test_a_rewards_gradient_reaches_every_target_and_brightens_what_is_sampled(
    family: Generator, family_size: VideoSize
) -> None:
    """Through two guided steps and the decoder of chosen frames."""
    policy, (conditioning, negative) = Policy(family, LoRA(rank=4)), sides(family)
    one, ends = torch.tensor([0]), (0, family_size.num_frames - 1)
    own, guidance = conditioning.take(one), Guidance(3.0, negative.take(one))
    sigmas = family.sigmas(2, family.latent_shape(family_size))
    touched: list[str] = []

    def step() -> float:
        latents = family.start(draw(family, family_size).noise[:1], sigmas[0], own)
        for sigma, following in itertools.pairwise(sigmas):
            velocity = family.guided_velocity(latents, sigma.expand(1), own, guidance)
            latents = latents + (following - sigma) * velocity
        latents = family.path.finish(latents, sigmas[-1])
        # Not clamped: a gradient that goes straight through a clamp is that of no loss where pixels are cut off.
        how = DecodeSettings(frames=ends, clamp="none")
        found = decoded_gradient(family, latents, lambda video: -video.mean(), how)
        latents.backward(found.latents)
        moved = {name: parameter.grad for name, parameter in policy.parameters.items() if "lora_B" in name}
        touched[:] = [name for name, grad in moved.items() if grad is not None and bool(grad.any())]
        assert len(touched) == len(moved)
        return float(found.loss)

    losses = descend(policy, step, 3e-4, steps=2)
    assert losses[-1] < losses[0]
    layers = {name.partition(".lora_B")[0] for name in touched}
    assert all(any(name.endswith(target) for name in layers) for target in family.lora_targets)
