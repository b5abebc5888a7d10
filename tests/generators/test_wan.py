"""Wan through reelign equals Wan through its own pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reelign.diffusion.samplers import initial_noise
from reelign.errors import ReelignError
from reelign.generators import Generator, Guidance, VideoSize
from reelign.generators.wan import Wan
from reelign.training import LoRA, Policy

PROMPTS = ["a red square moves left", "a disc"]
SEEDS = [3, 4]
STEPS = 4


def by_pipeline(generator: Generator, size: VideoSize, scale: float, output: str) -> torch.Tensor:
    noise = initial_noise((len(SEEDS), *generator.latent_shape(size)), SEEDS, "cpu")
    frames: torch.Tensor = generator.pipeline(
        prompt=PROMPTS,
        negative_prompt="",
        num_frames=size.num_frames,
        height=size.height,
        width=size.width,
        num_inference_steps=STEPS,
        guidance_scale=scale,
        latents=noise,
        max_sequence_length=generator.max_sequence_length,
        output_type=output,
    ).frames
    return frames


def by_reelign(generator: Generator, size: VideoSize, scale: float) -> torch.Tensor:
    negative = generator.encode_prompts([""] * len(PROMPTS))
    guidance = Guidance(scale, negative)
    return generator.sample(generator.encode_prompts(PROMPTS), SEEDS, size, steps=STEPS, guidance=guidance)


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_sampling_equals_the_pipelines_latents(tiny_wan: Generator, tiny_size: VideoSize, scale: float) -> None:
    expected = by_pipeline(tiny_wan, tiny_size, scale, "latent")
    torch.testing.assert_close(by_reelign(tiny_wan, tiny_size, scale), expected, rtol=0, atol=1e-4)


def test_guidance_changes_the_sample(tiny_wan: Generator, tiny_size: VideoSize) -> None:
    assert (by_reelign(tiny_wan, tiny_size, 1.0) - by_reelign(tiny_wan, tiny_size, 5.0)).abs().max() > 1e-3


def test_decoding_equals_the_pipelines_video(tiny_wan: Generator, tiny_size: VideoSize) -> None:
    videos = tiny_wan.decode(by_reelign(tiny_wan, tiny_size, 5.0)).detach()
    assert videos.shape == (2, 9, 3, 16, 16)
    expected = by_pipeline(tiny_wan, tiny_size, 5.0, "pt")
    torch.testing.assert_close(videos, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("frames", [1, 5, 9, 13])
def test_4k_plus_1_frames_encode_to_the_promised_shape_and_decode_back(tiny_wan: Generator, frames: int) -> None:
    size = VideoSize(frames, 16, 32)
    tiny_wan.check(size)
    latents = tiny_wan.encode(torch.rand(2, frames, 3, 16, 32))
    assert latents.shape == (2, *tiny_wan.latent_shape(size))
    assert latents.shape[2] == (frames - 1) // 4 + 1
    assert tiny_wan.decode(latents).shape == (2, frames, 3, 16, 32)


def test_encoding_normalises_by_the_vaes_own_statistics(tiny_wan: Generator) -> None:
    vae = tiny_wan.pipeline.vae
    videos = torch.rand(1, 5, 3, 16, 16)
    raw = vae.encode(videos.transpose(1, 2) * 2 - 1).latent_dist.mode()
    own = tiny_wan.encode(videos)
    for channel, (mean, std) in enumerate(zip(vae.config.latents_mean, vae.config.latents_std, strict=True)):
        torch.testing.assert_close(own[:, channel], (raw[:, channel] - mean) / std)


def test_decoding_is_differentiable(tiny_wan: Generator, tiny_size: VideoSize) -> None:
    latents = torch.randn(1, *tiny_wan.latent_shape(tiny_size), requires_grad=True)
    tiny_wan.decode(latents).sum().backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0


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
    tiny_wan: Generator, asked: tuple[int, int, int], nearest: tuple[int, int, int]
) -> None:
    assert tiny_wan.legal(VideoSize(*asked)) == VideoSize(*nearest)
    with pytest.raises(ReelignError, match=f"{VideoSize(*asked)}[^$]*nearest[^$]*{VideoSize(*nearest)}"):
        tiny_wan.check(VideoSize(*asked))


def test_prompts_encode_the_same_alone_and_together(tiny_wan: Generator) -> None:
    together = tiny_wan.encode_prompts([*PROMPTS, ""])
    assert torch.equal(together["prompt_embeds"], tiny_wan.encode_prompts([*PROMPTS, ""])["prompt_embeds"])
    for row, prompt in enumerate([*PROMPTS, ""]):
        alone = tiny_wan.encode_prompts([prompt])["prompt_embeds"][0]
        torch.testing.assert_close(together["prompt_embeds"][row], alone, rtol=0, atol=1e-5)
    assert not together["prompt_embeds"].requires_grad


def test_a_batch_of_mixed_sigmas_equals_single_calls(tiny_wan: Generator, tiny_size: VideoSize) -> None:
    noisy = initial_noise((2, *tiny_wan.latent_shape(tiny_size)), SEEDS, "cpu")
    sigma = torch.tensor([0.1, 0.9])
    conditioning = tiny_wan.encode_prompts(PROMPTS)
    together = tiny_wan.velocity(noisy, sigma, conditioning)
    for row in range(2):
        one = torch.tensor([row])
        alone = tiny_wan.velocity(noisy[one], sigma[one], conditioning.take(one))
        torch.testing.assert_close(together[one], alone, rtol=0, atol=1e-5)
    assert together.dtype == torch.float32


def test_weights_are_frozen_and_in_eval_mode(tiny_wan: Generator) -> None:
    for module in (tiny_wan.pipeline.transformer, tiny_wan.pipeline.vae):
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())


def test_schedule_falls_from_pure_noise_to_clean(tiny_wan: Generator) -> None:
    sigmas = tiny_wan.sigmas(STEPS)
    assert sigmas.shape == (STEPS + 1,)
    assert sigmas[0] == 1
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()


def test_defaults_stand_beside_the_weights(tiny_wan: Generator) -> None:
    assert tiny_wan.defaults == tiny_wan.family_defaults
    assert replace(tiny_wan.defaults, fps=8.0).size == VideoSize(81, 480, 832)


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
