"""CogVideoX's own ways: places, frames, schedulers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, CogVideoXPipeline

from generators.pipelines import assert_close, by_pipeline, by_reelign
from reelign.errors import ReelignError
from reelign.generators import Generator, VideoSize, load_generator

LAYOUTS = ("cogvideox-2b", "cogvideox-5b")


@pytest.fixture(params=LAYOUTS)
def folder(request: pytest.FixtureRequest, family_folders: dict[str, Path]) -> Path:
    return family_folders[request.param]


@pytest.fixture
def cogvideox(folder: Path, loaded: dict[str, Generator]) -> Generator:
    return loaded[folder.name]


@pytest.mark.parametrize("size", [VideoSize(1, 16, 32), VideoSize(17, 32, 16)], ids=str)
def test_places_are_the_pipelines_at_sizes_other_than_its_own(cogvideox: Generator, size: VideoSize) -> None:
    """2B works its sums of sines out again, 5B is handed rotary embeddings of the new grid."""
    cogvideox.check(size)
    assert_close(by_reelign(cogvideox, size, 5.0), by_pipeline(cogvideox.pipeline, cogvideox, size, 5.0))


def test_sampling_starts_at_pure_noise_and_ends_clean(cogvideox: Generator) -> None:
    sigmas = cogvideox.sigmas(50)
    assert (float(sigmas[0]), float(sigmas[-1])) == (1, 0)


@pytest.mark.parametrize("frames", [1, 9, 17, 25])
def test_8k_plus_1_frames_come_back_as_they_went_in(cogvideox: Generator, frames: int) -> None:
    latents = cogvideox.encode(torch.rand(1, frames, 3, 16, 16))
    assert latents.shape == (1, *cogvideox.latent_shape(VideoSize(frames, 16, 16)))
    assert cogvideox.decode(latents).shape == (1, frames, 3, 16, 16)


def test_8k_plus_5_frames_would_come_back_longer_and_are_refused(cogvideox: Generator) -> None:
    assert cogvideox.decode(cogvideox.encode(torch.rand(1, 5, 3, 16, 16))).shape[1] == 8
    with pytest.raises(ReelignError, match="5 frames"):
        cogvideox.check(VideoSize(5, 16, 16))


@pytest.mark.parametrize(
    ("asked", "nearest"), [((49, 480, 720), (49, 480, 720)), ((48, 20, 44), (49, 16, 48)), ((3, 1, 1), (1, 16, 16))]
)
def test_the_nearest_legal_size(
    cogvideox: Generator, asked: tuple[int, int, int], nearest: tuple[int, int, int]
) -> None:
    assert cogvideox.legal(VideoSize(*asked)) == VideoSize(*nearest)


def test_a_pipeline_saved_with_the_stochastic_scheduler_samples_by_ddim_on_its_table(
    folder: Path, tmp_path: Path
) -> None:
    pipeline: Any = CogVideoXPipeline.from_pretrained(folder)
    pipeline.scheduler = CogVideoXDPMScheduler.from_config(pipeline.scheduler.config)
    pipeline.save_pretrained(tmp_path)
    generator = load_generator(str(tmp_path))
    pipeline.scheduler = CogVideoXDDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    size = VideoSize(9, 16, 16)
    assert_close(by_reelign(generator, size, 5.0), by_pipeline(pipeline, generator, size, 5.0))
