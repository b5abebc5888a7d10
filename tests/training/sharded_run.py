"""What each of two ranks checks of a model that is split over them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from reelign.generators import load_generator
from reelign.training import Draw, LoRA, Policy, velocity_errors
from reelign.training.adapters import WEIGHTS_FILE
from reelign.training.launch import start_ranks
from reelign.training.policy import Weights
from reelign.training.sharding import whole

LATENTS = torch.ones(2, 16, 3, 2, 2)
DRAW = Draw(torch.tensor([0.3, 0.8]), torch.randn(2, 16, 3, 2, 2, generator=torch.Generator().manual_seed(2)))
MODES = (LoRA(rank=2), LoRA(rank=2, dora=True), None)


def errors_of(policy: Policy) -> dict[Weights, Tensor]:
    conditioning = policy.generator.encode_prompts(["a red square", "a disc"])
    return velocity_errors(policy, LATENTS, conditioning, DRAW)


def gradients(policy: Policy) -> dict[str, Tensor]:
    """Of the mean error; the ranks see the same videos, so that the mean over them is each one's own."""
    errors_of(policy)["policy"].mean().backward()
    found: dict[str, Tensor] = whole({name: each.grad for name, each in policy.parameters.items()})
    return found


def assert_split_is_whole(model: str, folder: Path) -> None:
    """Of a bf16 model split over two ranks, the first step's errors and gradients are those of one process."""
    torch.set_num_threads(1)
    ranks = start_ranks()
    for lora in MODES:
        alone = Policy(load_generator(model, dtype=torch.bfloat16), lora, reference=True)
        split = Policy(load_generator(model, dtype=torch.bfloat16), lora, reference=True, ranks=ranks, sharded=True)
        one, two = errors_of(alone), errors_of(split)
        assert torch.equal(two["policy"], two["reference"])
        assert torch.equal(two["policy"], one["policy"])
        assert {each.dtype for each in split.parameters.values()} == {torch.float32}
        assert_gradients_are_those_of(alone, split)
        assert_weights_that_are_exchanged_are_seen(split)
    split.save(folder)
    if ranks.main:
        saved = load_file(folder / "transformer" / WEIGHTS_FILE)
        assert saved["proj_out.weight"].dtype == torch.bfloat16
        assert saved["scale_shift_table"].dtype == torch.float32


def assert_gradients_are_those_of(alone: Policy, split: Policy) -> None:
    """But for what bf16 rounds away."""
    expected, found = gradients(alone), gradients(split)
    assert max(float(each.abs().max()) for each in expected.values()) > 1e-2
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=2**-6 * float(gradient.abs().max()))


@torch.no_grad()
def assert_weights_that_are_exchanged_are_seen(policy: Policy) -> None:
    """By the very next forward, with no backward in between."""
    before = errors_of(policy)
    policy.average = {name: each + 0.1 for name, each in policy.state_dict().items()}
    with policy.using("average"):
        moved = errors_of(policy)
    assert not torch.equal(moved["policy"], before["policy"])
    assert torch.equal(moved["reference"], before["reference"])
    assert torch.equal(errors_of(policy)["policy"], before["policy"])


def assert_split_experts_are_whole(model: str, folder: Path) -> None:
    """Rank 0's rows are of high noise, rank 1's of low: errors and gradients are those of one process with all rows."""
    torch.set_num_threads(1)
    ranks = start_ranks()
    latents = torch.ones(4, 16, 2, 2, 2)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(2))
    draw = Draw(torch.tensor([0.95, 0.9, 0.4, 0.3]), noise)
    for experts in ((), ("transformer_2",)):
        alone = Policy(load_generator(model), LoRA(rank=2), experts=experts)
        split = Policy(load_generator(model), LoRA(rank=2), experts=experts, ranks=ranks, sharded=True)
        assert all(
            isinstance(each, DTensor) for part in split.generator.denoisers.values() for each in part.parameters()
        )
        texts = alone.generator.encode_prompts(["a red square", "a disc"] * 2)
        expected = velocity_errors(alone, latents, texts, draw)
        (expected["policy"].sum() / 4).backward()
        own = torch.arange(4)[ranks.rows(4)]
        found = velocity_errors(split, latents[own], texts.take(own), Draw(draw.sigma[own], draw.noise[own]))
        (found["policy"].sum() / 4).backward()
        ranks.sum_gradients(split.parameters.values())
        for name in ("policy", "reference"):
            torch.testing.assert_close(found[name], expected[name][own].detach(), rtol=1e-5, atol=1e-6, msg=name)
        gradients: dict[str, Tensor] = whole({name: each.grad for name, each in split.parameters.items()})
        assert gradients.keys() == alone.parameters.keys()
        for name, parameter in alone.parameters.items():
            assert parameter.grad is not None
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-6)
        assert any(bool(each.any()) for each in gradients.values())
    split.save(folder)
    if ranks.main:
        assert [path.name for path in folder.iterdir() if path.suffix == ".safetensors"]
