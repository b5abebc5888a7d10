"""The closed-form autoencoder: sizes, fidelity, the first frame, half precision, refused input."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from reelign.errors import ReelignError
from reelign.generators import resolve_model
from reelign.spriteworld.autoencoder import analyse, build_autoencoder, factors
from reelign.spriteworld.judges import attributes
from reelign.spriteworld.prompts import VOCABULARIES
from reelign.spriteworld.world import render, sample_mix, sample_scenes


@pytest.fixture(scope="module")
def vae() -> AutoencoderKLWan:
    return build_autoencoder(sample_mix(96, torch.Generator().manual_seed(0))[0])


def clean(count: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Clean videos and their attributes; all shapes among them."""
    scene = sample_scenes(count, torch.Generator().manual_seed(seed))
    return render(scene), scene.attributes


def encode(vae: AutoencoderKLWan, videos: Tensor) -> Tensor:
    return vae.encode(videos.transpose(1, 2) * 2 - 1).latent_dist.mode()


def decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    return vae.decode(latents).sample.transpose(1, 2) / 2 + 0.5


def psnr(one: Tensor, other: Tensor) -> float:
    return float(-10 * (one - other).square().mean().log10())


def test_seventeen_frames_become_five_and_come_back(vae: AutoencoderKLWan) -> None:
    videos, truth = clean(24)
    latents = encode(vae, videos)
    assert latents.shape == (24, vae.config.z_dim, 5, 4, 4)
    again = decode(vae, latents)
    assert again.shape == videos.shape
    assert psnr(again, videos) > 26
    assert len(truth[:, 1].unique()) == len(VOCABULARIES[1])
    assert (attributes(again) == truth).float().mean() >= 0.98


def test_the_gate_of_the_shipped_one_reconstructed_shapes_are_judged_right() -> None:
    shipped = AutoencoderKLWan.from_pretrained(resolve_model("spriteworld"), subfolder="vae")
    videos, truth = clean(96, seed=2)
    with torch.no_grad():
        seen = attributes(decode(shipped, encode(shipped, videos)))
    assert (seen[:, 1] == truth[:, 1]).float().mean() >= 0.95


@pytest.mark.parametrize("num_frames", [1, 5, 9, 13])
def test_fewer_frames_are_the_start_of_more(vae: AutoencoderKLWan, num_frames: int) -> None:
    videos = clean(2)[0]
    latents = encode(vae, videos[:, :num_frames])
    assert latents.shape[2] == (num_frames - 1) // 4 + 1
    torch.testing.assert_close(latents, encode(vae, videos)[:, :, : latents.shape[2]], atol=1e-4, rtol=0)
    assert decode(vae, latents).shape[1] == num_frames


def test_other_frame_sizes_decode_as_well_in_every_corner(vae: AutoencoderKLWan) -> None:
    videos = clean(2)[0]
    wide = torch.cat([videos[..., 8:24], videos[..., 8:24], videos[..., 8:24]], dim=-1)
    again = decode(vae, encode(vae, wide))
    for start in (0, 16, 32):
        assert psnr(again[..., start : start + 16], wide[..., start : start + 16]) > 22


def test_a_video_that_stands_still_is_its_first_frame(vae: AutoencoderKLWan) -> None:
    still = clean(2)[0][:, :1].expand(-1, 5, -1, -1, -1)
    latents = encode(vae, still)
    torch.testing.assert_close(latents[:, :, 0], latents[:, :, 1], atol=2e-3, rtol=0)


def test_enough_channels_lose_almost_nothing() -> None:
    """Few videos have few principal components; what is left is the error of the network itself."""
    few = clean(2)[0][:, :5]
    tight = build_autoencoder(few, width=80, latent_channels=74)
    assert psnr(decode(tight, encode(tight, few)), few) > 38


def test_half_precision_holds_every_weight(vae: AutoencoderKLWan) -> None:
    for name, weight in vae.named_parameters():
        assert torch.equal(weight, weight.half().float()), name


def test_the_same_videos_give_the_same_weights() -> None:
    videos = sample_mix(16, torch.Generator().manual_seed(3))[0]
    one, other = (build_autoencoder(videos, width=48, latent_channels=24).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_normalised_latents_keep_some_of_their_spectrum(vae: AutoencoderKLWan) -> None:
    spread = torch.tensor(vae.config.latents_std)[:, None, None, None]
    latents = encode(vae, sample_mix(32, torch.Generator().manual_seed(4))[0]) / spread
    assert 0.8 < float(latents.square().mean()) < 1.25
    deviations = latents.std(dim=(0, 2, 3, 4))
    assert deviations[:8].mean() > 2 * deviations[-8:].mean()


def test_factors_are_exact_at_full_rank() -> None:
    matrix = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    reading, writing = factors(matrix, torch.ones(4, dtype=torch.float64), 4)
    torch.testing.assert_close(writing @ reading, matrix, atol=5e-3, rtol=0)


def test_coefficients_stay_in_reach() -> None:
    found = analyse(sample_mix(8, torch.Generator().manual_seed(5))[0], codes=20, latent_channels=16)
    assert found.block.basis.shape == (48, 20)
    assert found.pair.basis.shape == (160, 20)
    assert found.chunk.basis.shape == (40, 16)


@pytest.mark.parametrize(
    ("shape", "options"),
    [((1, 16, 3, 32, 32), {}), ((1, 5, 3, 32, 20), {}), ((1, 5, 3, 32, 32), {"latent_channels": 60})],
)
def test_refuses_what_does_not_fit(shape: tuple[int, ...], options: dict[str, int]) -> None:
    with pytest.raises(ReelignError):
        build_autoencoder(torch.zeros(shape), **options)
