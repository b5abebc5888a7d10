"""Latent rewards: what they say, what of them trains, and which generator they belong to."""

from __future__ import annotations

import functools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reelign.diffusion.guidance import reward_gradient
from reelign.errors import ReelignError
from reelign.generators import Conditioning, Generator, load_generator
from reelign.training import LoRA, Policy
from reelign.training.latent_reward import LatentReward, LatentRewardShape, QueryHead, new_latent_reward
from reelign.training.latent_reward_files import (
    DESCRIPTION,
    WEIGHTS,
    load_latent_reward,
    read_shape,
    save_latent_reward,
)

SHAPE = LatentRewardShape(
    dimensions=("VQ", "TA"), blocks=1, train="full", lora=None, levels="noisy", queries=2, heads=2
)
LATENTS = (16, 3, 2, 2)


def reward_of(generator: Generator, **changes: Any) -> LatentReward:
    """With every trained weight away from where it starts."""
    reward = new_latent_reward(generator, replace(SHAPE, **changes), generator.encode_prompts(["a"]), LATENTS, seed=0)
    chance = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in reward.trained_parameters().values():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=chance))
    return reward


def inputs(generator: Generator) -> tuple[Tensor, Tensor, Conditioning]:
    noisy = torch.randn((2, *LATENTS), generator=torch.Generator().manual_seed(2))
    return noisy, torch.tensor([0.2, 0.8]), generator.encode_prompts(["a red disc", "blue"])


def test_the_head_weighs_values_by_attention_and_knows_nothing_at_first() -> None:
    """One query, one head: softmax of query · key over the tokens, by hand."""
    torch.manual_seed(0)
    head, tokens = QueryHead(4, 1, queries=1, heads=1), torch.randn(2, 3, 4)
    assert torch.equal(head(tokens), torch.zeros(2, 1))
    torch.nn.init.normal_(head.read)
    normed = head.norm(tokens)
    weights = (head.key(normed) @ head.queries[0, 0] / 2).softmax(dim=1)  # √4 = 2
    pooled = (weights[..., None] * head.value(normed)).sum(dim=1)
    expected = torch.nn.functional.gelu(head.hidden(pooled)) @ head.read[0]
    torch.testing.assert_close(head(tokens)[:, 0], expected)


def test_a_reward_reads_latents_sigma_and_conditioning_and_is_normalised(tiny_wan: Generator) -> None:
    reward = reward_of(tiny_wan)
    noisy, sigma, conditioning = inputs(tiny_wan)
    found = reward(noisy, sigma, conditioning)
    assert list(found) == ["VQ", "TA"]
    for other in (
        reward(noisy + 0.1, sigma, conditioning),
        reward(noisy, sigma + 0.1, conditioning),
        reward(noisy, sigma, conditioning.take(torch.tensor([1, 0]))),
    ):
        assert not torch.equal(found["TA"], other["TA"])
    reward.settings = replace(reward.settings, mean=(1.0, 2.0), std=(0.5, 4.0))
    torch.testing.assert_close(reward(noisy, sigma, conditioning)["TA"], (found["TA"] - 2) / 4)


def test_clean_latents_are_read_at_no_noise_whatever_sigma_is(tiny_wan: Generator) -> None:
    noisy, sigma, conditioning = inputs(tiny_wan)
    clean = reward_of(tiny_wan, levels="clean")
    assert torch.equal(clean.raw(noisy, sigma, conditioning), clean.raw(noisy, sigma / 2, conditioning))
    aware = reward_of(tiny_wan)
    torch.testing.assert_close(clean.raw(noisy, sigma, conditioning), aware.raw(noisy, torch.zeros(2), conditioning))


def test_what_trains_of_each_kind(tiny_wan: Generator) -> None:
    names = {kind: set(reward_of(tiny_wan, train=kind).trained_parameters()) for kind in ("full", "lora", "head")}
    assert all(name.startswith("head.") for name in names["head"])
    assert names["head"] < names["lora"]
    assert all("lora_" in name for name in names["lora"] - names["head"])
    assert "trunk.blocks.0.attn1.to_q.weight" in names["full"]
    assert not [name for name in names["full"] if name.startswith(("trunk.blocks.1", "trunk.proj_out"))]


def test_its_gradient_reaches_the_latents_and_nothing_else(tiny_wan: Generator) -> None:
    policy = Policy(tiny_wan, None)  # whose weights are the shared ones
    for kind in ("head", "full"):
        reward = reward_of(tiny_wan, train=kind)
        noisy, sigma, conditioning = inputs(tiny_wan)
        said = functools.partial(reward, conditioning=conditioning)
        found = reward_gradient(said, noisy, sigma, {"VQ": 1.0, "TA": -1.0})
        assert float(found.abs().sum()) > 0
        assert not reward(noisy, sigma, conditioning)["VQ"].requires_grad
    assert not [name for name, each in policy.parameters.items() if each.grad is not None]


@pytest.mark.parametrize(
    ("kind", "dtype"), [("full", torch.bfloat16), ("lora", torch.float32), ("head", torch.float32)]
)
def test_a_saved_reward_comes_back_bit_for_bit(
    kind: Any, dtype: torch.dtype, tiny_wan_folder: Path, tmp_path: Path
) -> None:
    generator = load_generator(str(tiny_wan_folder), dtype=dtype)
    reward = reward_of(generator, train=kind, lora=LoRA(rank=2) if kind == "lora" else None)
    reward.settings = replace(reward.settings, mean=(0.1, 0.2), std=(1.0, 2.0), largest=3.0)
    save_latent_reward(reward, tmp_path / "reward")
    again = load_latent_reward(tmp_path / "reward", generator)
    assert again.settings == reward.settings == read_shape(tmp_path / "reward")
    for name, values in reward(*inputs(generator)).items():
        assert torch.equal(again(*inputs(generator))[name], values)
    # A copy of the blocks is kept in the model's precision, the head in full.
    kept = load_file(tmp_path / "reward" / WEIGHTS)
    assert kept["head.read"].dtype == torch.float32
    assert kind != "full" or kept["trunk.blocks.0.attn1.to_q.weight"].dtype == dtype


def test_a_reward_of_another_model_or_vae_is_refused(
    tiny_wan: Generator, tiny_wan_folder: Path, tmp_path: Path
) -> None:
    save_latent_reward(reward_of(tiny_wan), tmp_path / "reward")
    moved = shutil.copytree(tiny_wan_folder, tmp_path / "renamed")
    load_latent_reward(tmp_path / "reward", load_generator(str(moved)))
    for component in ("vae", "transformer"):
        other = shutil.copytree(tiny_wan_folder, tmp_path / f"other-{component}")
        path = other / component / "diffusion_pytorch_model.safetensors"
        weights = load_file(path)
        name = sorted(weights)[0]
        save_file(weights | {name: weights[name] + 1}, path)
        with pytest.raises(ReelignError, match="another model, or one with another VAE"):
            load_latent_reward(tmp_path / "reward", load_generator(str(other)))


def test_shared_blocks_that_were_trained_since_are_refused_and_an_adapter_is_not(
    tiny_wan: Generator, tmp_path: Path
) -> None:
    reward = reward_of(tiny_wan, train="head")
    before = reward(*inputs(tiny_wan))
    save_latent_reward(reward, tmp_path / "reward")
    policy = Policy(tiny_wan, LoRA(rank=2))
    with torch.no_grad():
        for parameter in policy.parameters.values():
            parameter.fill_(0.3)
    again = load_latent_reward(tmp_path / "reward", tiny_wan)
    torch.testing.assert_close(again(*inputs(tiny_wan))["VQ"], before["VQ"])
    with torch.no_grad():
        tiny_wan.pipeline.transformer.patch_embedding.weight.add_(0.1)
    with pytest.raises(ReelignError, match="reads the base's own blocks"):
        load_latent_reward(tmp_path / "reward", tiny_wan)


def test_damaged_folders_are_refused(tiny_wan: Generator, tmp_path: Path) -> None:
    with pytest.raises(ReelignError, match="There is no latent reward in"):
        load_latent_reward(tmp_path, tiny_wan)
    folder = save_latent_reward(reward_of(tiny_wan), tmp_path / "reward")
    weights = load_file(folder / WEIGHTS)
    save_file({name: each for name, each in weights.items() if name != "head.read"}, folder / WEIGHTS)
    with pytest.raises(ReelignError, match=r"do not fit: head\.read"):
        load_latent_reward(folder, tiny_wan)
    (folder / WEIGHTS).write_bytes(b"no")
    with pytest.raises(ReelignError, match="cannot be read"):
        load_latent_reward(folder, tiny_wan)
    assert json.loads((folder / DESCRIPTION).read_text())["shape"]["blocks"] == 1


def test_heads_that_do_not_divide_the_width_are_refused(tiny_wan: Generator) -> None:
    with pytest.raises(ReelignError, match="24 wide, which 5 heads do not divide"):
        reward_of(tiny_wan, heads=5)
