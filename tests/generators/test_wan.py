"""Wan 2.1's own ways: 4k + 1 frames, statistics of the VAE's, adapters under the original names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reelign.errors import ReelignError
from reelign.generators import Generator, VideoSize
from reelign.generators.wan import Wan
from reelign.training import LoRA, Policy


@pytest.fixture
def wan(loaded: dict[str, Generator]) -> Generator:
    return loaded["wan"]


@pytest.mark.parametrize("frames", [1, 5, 9, 13])
def test_4k_plus_1_frames_encode_to_the_promised_shape_and_decode_back(wan: Generator, frames: int) -> None:
    size = VideoSize(frames, 16, 32)
    wan.check(size)
    latents = wan.encode(torch.rand(2, frames, 3, 16, 32))
    assert latents.shape == (2, *wan.latent_shape(size))
    assert latents.shape[2] == (frames - 1) // 4 + 1
    assert wan.decode(latents).shape == (2, frames, 3, 16, 32)


def test_encoding_normalises_by_the_vaes_own_statistics(wan: Generator) -> None:
    vae = wan.pipeline.vae
    videos = torch.rand(1, 5, 3, 16, 16)
    raw = vae.encode(videos.transpose(1, 2) * 2 - 1).latent_dist.mode()
    own = wan.encode(videos)
    for channel, (mean, std) in enumerate(zip(vae.config.latents_mean, vae.config.latents_std, strict=True)):
        torch.testing.assert_close(own[:, channel], (raw[:, channel] - mean) / std)


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [
        ((10, 16, 16), (9, 16, 16)),
        ((12, 16, 16), (13, 16, 16)),
        ((1, 20, 44), (1, 16, 48)),
        ((2, 1, 1), (1, 16, 16)),
    ],
)
def test_a_size_the_vae_would_cut_is_refused_with_the_nearest(
    wan: Generator, asked: tuple[int, int, int], nearest: tuple[int, int, int]
) -> None:
    assert wan.legal(VideoSize(*asked)) == VideoSize(*nearest)
    with pytest.raises(ReelignError, match=f"{VideoSize(*asked)}[^$]*nearest[^$]*{VideoSize(*nearest)}"):
        wan.check(VideoSize(*asked))


def test_defaults_stand_beside_the_weights(wan: Generator) -> None:
    assert wan.defaults == wan.family_defaults
    assert replace(wan.defaults, fps=8.0).size == VideoSize(81, 480, 832)


def test_a_doras_magnitudes_are_named_and_shaped_as_comfyui_reads_them(tiny_wan: Generator, tmp_path: Path) -> None:
    """comfy/lora.py asks for `{layer}.dora_scale`, and weight_adapter/base.py divides it by norms of (outputs, 1)."""
    policy = Policy(tiny_wan, LoRA(rank=2, alpha=6, dora=True))
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters.values():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=chance))
    file = policy.save(tmp_path)
    assert file is not None
    named = Wan.original_lora_names(load_file(file))
    assert {name.rpartition(".lora_")[0] or name.removesuffix(".dora_scale") for name in named} == {
        f"diffusion_model.blocks.{block}.{layer}"
        for block in (0, 1)
        for layer in (*(f"{kind}_attn.{each}" for kind in ("self", "cross") for each in "qkvo"), "ffn.0", "ffn.2")
    }
    layer = "diffusion_model.blocks.1.ffn.0"
    down, up, scale = (named[f"{layer}.{end}"] for end in ("lora_A.weight", "lora_B.weight", "dora_scale"))
    trained = tiny_wan.denoisers["transformer"].blocks[1].ffn.net[0].proj  # type: ignore[index, union-attr]
    adapted = trained.weight + 3 * up @ down  # alpha / rank
    with torch.no_grad():
        effective = (trained(torch.eye(24)) - trained.bias).T
    assert scale.shape == (32, 1)
    torch.testing.assert_close(adapted * scale / adapted.norm(dim=1, keepdim=True), effective, rtol=0, atol=1e-5)
    # As ComfyUI reads it, by the norms of the base: near, and not the same.
    torch.testing.assert_close(adapted * scale / trained.weight.norm(dim=1, keepdim=True), effective, rtol=0.1, atol=0)
