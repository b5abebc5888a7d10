"""CogVideoX 1.5 and CogVideoX image-to-video through reelign equal their own pipelines."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from generators.pipelines import assert_close, by_pipeline, by_reelign
from reelign.errors import ReelignError
from reelign.generators import Generator, VideoSize, load_generator

SIZE = VideoSize(9, 16, 16)


@pytest.fixture
def fifteen(loaded: dict[str, Generator]) -> Generator:
    return loaded["cogvideox-1.5"]


@pytest.mark.parametrize("size", [VideoSize(17, 16, 32)], ids=str)
def test_sampling_makes_the_padding_as_the_pipeline_does(fifteen: Generator, size: VideoSize) -> None:
    shape = fifteen.latent_shape(size)
    assert shape[1] == (size.num_frames - 1) // 4 + 2
    ours = by_reelign(fifteen, size, 5.0)
    assert_close(ours, by_pipeline(fifteen.pipeline, fifteen, size, 5.0))
    videos = fifteen.decode(ours).detach()
    assert videos.shape == (2, size.num_frames, 3, size.height, size.width)
    theirs = by_pipeline(fifteen.pipeline, fifteen, size, 5.0, "pt")
    torch.testing.assert_close(videos, theirs, rtol=0, atol=2e-5)
    last = size.num_frames - 1
    torch.testing.assert_close(fifteen.decode(ours, frames=[last, 0]), videos[:, [last, 0]], rtol=0, atol=1e-5)


def test_encoding_copies_the_first_latents_in_front(fifteen: Generator) -> None:
    videos = torch.rand(2, 9, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    latents = fifteen.encode(videos)
    assert latents.shape == (2, *fifteen.latent_shape(SIZE))
    assert latents[:, :, 0].equal(latents[:, :, 1])
    raw = fifteen.pipeline.vae.encode(videos.transpose(1, 2) * 2 - 1).latent_dist.mode()
    torch.testing.assert_close(latents[:, :, 1:], 0.7 * raw)


def test_the_padding_bears_no_gradient_of_the_pixels(fifteen: Generator) -> None:
    latents = torch.randn(1, *fifteen.latent_shape(SIZE), requires_grad=True)
    fifteen.decode(latents).sum().backward()
    assert latents.grad is not None
    assert not latents.grad[:, :, 0].any()
    assert all(latents.grad[:, :, frame].any() for frame in range(1, latents.shape[2]))


def test_fifteens_defaults_and_tokens_are_its_own(fifteen: Generator) -> None:
    assert fifteen.defaults.size == VideoSize(81, 768, 1360)
    assert fifteen.patch == (2, 2, 2)
    assert fifteen.tokens(fifteen.latent_shape(VideoSize(81, 768, 1360))) == 11 * 48 * 85


def test_other_patches_over_time_are_refused(family_folders: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(family_folders["cogvideox-1.5"], tmp_path / "copy"))
    model: Any = load_generator(str(copy)).pipeline.transformer
    type(model).from_config({**model.config, "patch_size_t": 3}).save_pretrained(copy / "transformer")
    with pytest.raises(ReelignError, match="takes 3 latent frames a token"):
        load_generator(str(copy))


def test_learned_places_are_for_one_size_alone(family_folders: dict[str, Path]) -> None:
    generator = load_generator(str(family_folders["cogvideox-i2v"]))
    assert generator.legal(VideoSize(17, 32, 32)) == SIZE
    config = json.loads((family_folders["cogvideox-i2v"] / "transformer" / "config.json").read_text())
    assert config["use_learned_positional_embeddings"]
