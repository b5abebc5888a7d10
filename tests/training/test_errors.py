"""Velocity errors against the definition."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from reelign.diffusion.paths import RectifiedFlow
from reelign.generators import Conditioning, Generator, load_generator
from reelign.generators.wan import Wan
from reelign.objectives import temporal_segments
from reelign.training import Draw, LoRA, Policy, make_draw, velocity_errors


class KnowsTheAnswer(Wan):
    """A Wan whose velocity is that of known latents."""

    latents: Tensor

    def velocity(self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        return (noisy_latents - self.latents) / sigma.reshape(-1, 1, 1, 1, 1)


def draw_for(latents: Tensor, seed: int = 0) -> Draw:
    chance = torch.Generator().manual_seed(seed)
    device = torch.device("cpu")
    return make_draw(
        latents.shape, path=RectifiedFlow(), distribution="uniform", shift=1.0, generator=chance, device=device
    )


@pytest.fixture
def rows(pairs: Tensor) -> Tensor:
    return pairs[:2, 0]


def test_a_perfect_prediction_has_no_error(tiny_wan: Generator, rows: Tensor, conditioning: Conditioning) -> None:
    oracle = KnowsTheAnswer(tiny_wan.pipeline, tiny_wan.model)
    oracle.latents = rows
    errors = velocity_errors(Policy(oracle, LoRA(rank=2)), rows, conditioning, draw_for(rows))
    for error in errors.values():
        assert error.shape == (2,)
        assert error.max() < 1e-8


def test_errors_are_the_mean_squared_distance_to_noise_minus_latents(
    tiny_wan: Generator, rows: Tensor, conditioning: Conditioning
) -> None:
    draw = draw_for(rows)
    expected = []
    for row in range(2):
        sigma, noise = draw.sigma[row], draw.noise[row]
        noisy = (1 - sigma) * rows[row] + sigma * noise
        velocity = tiny_wan.velocity(noisy[None], sigma[None], conditioning.take(torch.tensor([row])))[0]
        expected.append((velocity - (noise - rows[row])).double().pow(2).mean().float())
    errors = velocity_errors(Policy(tiny_wan, LoRA(rank=2)), rows, conditioning, draw)
    torch.testing.assert_close(errors["reference"], torch.stack(expected))
    torch.testing.assert_close(errors["policy"], torch.stack(expected))
    assert errors["policy"].requires_grad
    assert not errors["reference"].requires_grad
    assert errors["policy"].dtype == torch.float32


def test_mask_takes_the_mean_over_what_counts(tiny_wan: Generator, rows: Tensor, conditioning: Conditioning) -> None:
    policy, draw = Policy(tiny_wan, LoRA(rank=2)), draw_for(rows)

    def error(mask: Tensor | None) -> Tensor:
        with torch.no_grad():
            return velocity_errors(policy, rows, conditioning, draw, weights=("policy",), mask=mask)["policy"]

    first, rest = torch.zeros(1, 1, 3, 1, 1), torch.ones(1, 1, 3, 1, 1)
    first[:, :, 0], rest[:, :, 0] = 1, 0
    torch.testing.assert_close((error(first) + 2 * error(rest)) / 3, error(None))
    torch.testing.assert_close(error(torch.ones_like(rows)), error(None))
    with pytest.raises(ValueError, match="without a single element"):
        error(torch.zeros(1, 1, 3, 1, 1))


def test_weight_multiplies_each_videos_error(tiny_wan: Generator, rows: Tensor, conditioning: Conditioning) -> None:
    policy, draw = Policy(tiny_wan, LoRA(rank=2)), draw_for(rows)
    weight = (1 - draw.sigma) ** 2
    plain = velocity_errors(policy, rows, conditioning, draw)
    weighted = velocity_errors(policy, rows, conditioning, draw, weight=weight)
    for name in plain:
        torch.testing.assert_close(weighted[name], plain[name] * weight)


def test_a_repeated_draw_is_shared_by_both_sides_of_a_pair(pairs: Tensor) -> None:
    draw = draw_for(pairs[:, 0]).repeat(2)
    assert torch.equal(draw.sigma[0::2], draw.sigma[1::2])
    assert torch.equal(draw.noise[0::2], draw.noise[1::2])
    assert not torch.equal(draw.noise[0], draw.noise[2])


def test_segments_share_one_forward_and_are_masks_each(
    tiny_wan: Generator, rows: Tensor, conditioning: Conditioning
) -> None:
    policy, draw = Policy(tiny_wan, LoRA(rank=2)), draw_for(rows)
    segments = temporal_segments(3, 2)
    calls = 0
    velocity = tiny_wan.velocity

    def counted(*inputs: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return velocity(*inputs)  # type: ignore[arg-type]

    tiny_wan.velocity = counted  # type: ignore[method-assign, assignment]
    weight = torch.tensor([0.5, 2.0])
    found = velocity_errors(policy, rows, conditioning, draw, mask=segments, weight=weight)
    assert calls == 2
    assert found["policy"].shape == found["reference"].shape == (2, 2)
    for number, segment in enumerate(segments):
        alone = velocity_errors(policy, rows, conditioning, draw, mask=segment, weight=weight)
        torch.testing.assert_close(found["policy"][:, number], alone["policy"])
    whole = velocity_errors(policy, rows, conditioning, draw, weight=weight)["policy"]
    torch.testing.assert_close((2 * found["policy"][:, 0] + found["policy"][:, 1]) / 3, whole)


def test_conditioning_comes_to_the_model_from_the_cpu(
    tiny_wan_folder: Path, rows: Tensor, conditioning: Conditioning
) -> None:
    """A model without values stands for one on a GPU; streams keep the prompts of all samples on the CPU."""
    policy = Policy(load_generator(str(tiny_wan_folder), weights=False), LoRA(rank=2))
    device = policy.generator.device
    draw = draw_for(rows)
    away = Draw(draw.sigma.to(device), draw.noise.to(device))
    found = velocity_errors(policy, rows.to(device), conditioning, away)
    assert {name: (each.device, each.shape) for name, each in found.items()} == {
        name: (device, (len(rows),)) for name in ("policy", "reference")
    }
