"""Families learn by more than stored pairs: all weights, their own rollouts judged on the fly, a reward's gradient."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from generators.pipelines import PROMPTS
from reelign.generators import Generator, Guidance, VideoSize, load_generator
from reelign.objectives.dpo import DPO
from reelign.training import Draw, LoRA, Policy, load_adapter, velocity_errors
from reelign.training.staged_decode import DecodeSettings, decoded_gradient

FAMILIES = ("cogvideox-1.5", "wan22-ti2v", "hunyuan", "hunyuan15", "ltx", "mochi", "opensora")
STEPS = 4


@pytest.fixture(params=FAMILIES)
def family_folder(request: pytest.FixtureRequest, family_folders: dict[str, Path]) -> Path:
    return family_folders[request.param]


@pytest.fixture
def family(own_family: Generator) -> Generator:
    return own_family


def draw(family: Generator, size: VideoSize) -> Draw:
    noise = torch.randn(2, *family.latent_shape(size), generator=torch.Generator().manual_seed(1))
    return Draw(family.path.training_sigmas(torch.tensor([0.3, 0.8])), noise)


def descend(policy: Policy, step: Callable[[], float], rate: float) -> list[float]:
    """The loss before each of four steps."""
    optimiser, losses = torch.optim.Adam(policy.parameters.values(), lr=rate), []
    for _ in range(STEPS):
        optimiser.zero_grad()
        losses.append(step())
        optimiser.step()
        policy.refresh()
    return losses


def test_all_weights_train_and_are_saved_as_from_pretrained_takes_them(
    family: Generator, family_size: VideoSize, tmp_path: Path
) -> None:
    policy, latents = Policy(family, None), torch.zeros(2, *family.latent_shape(family_size))
    conditioning, at = family.encode_prompts(PROMPTS), draw(family, family_size)

    def step() -> float:
        error = velocity_errors(policy, latents, conditioning, at, weights=("policy",))["policy"].mean()
        error.backward()
        return float(error.detach())

    losses = descend(policy, step, 1e-3)
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
    """The brighter of two candidates is chosen; errors of all four at one draw, before and after four steps."""
    policy, conditioning = Policy(family, LoRA(rank=4)), family.encode_prompts(PROMPTS)
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

    losses = descend(policy, step, 1e-2)
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert losses[-1] < losses[0] - 0.05


def test_a_rewards_gradient_reaches_every_target_and_brightens_what_is_sampled(
    family: Generator, family_size: VideoSize
) -> None:
    """Through two guided steps and the decoder of chosen frames."""
    policy, conditioning = Policy(family, LoRA(rank=4)), family.encode_prompts(PROMPTS)
    guidance = Guidance(3.0, family.encode_prompts(["", ""]))
    sigmas = family.sigmas(2, family.latent_shape(family_size))
    touched: list[str] = []

    def step() -> float:
        latents = draw(family, family_size).noise
        for sigma, following in itertools.pairwise(sigmas):
            velocity = family.guided_velocity(latents, sigma.expand(2), conditioning, guidance)
            latents = latents + (following - sigma) * velocity
        found = decoded_gradient(family, latents, lambda video: -video.mean(), DecodeSettings(frames=(0, 5)))
        latents.backward(found.latents)
        moved = {name: parameter.grad for name, parameter in policy.parameters.items() if "lora_B" in name}
        touched[:] = [name for name, grad in moved.items() if grad is not None and bool(grad.any())]
        assert len(touched) == len(moved)
        return float(found.loss)

    losses = descend(policy, step, 1e-2)
    assert losses[-1] < losses[0]
    ends = {name.partition(".lora_B")[0] for name in touched}
    assert all(any(name.endswith(target) for name in ends) for target in family.lora_targets)
