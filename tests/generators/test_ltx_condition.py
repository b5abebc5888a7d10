"""LTX-Video 13B's own ways: places in seconds of causal frames, a schedule without shift, a first frame as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.pipelines import PROMPTS, SEEDS, STEPS, assert_close
from generators.tiny_ltx import save_ltx
from reelign.errors import ReelignError
from reelign.generators import Generator, Guidance, VideoSize, load_generator

SIZE = VideoSize(17, 64, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "ltx-13b"
    save_ltx(folder, version="0.9.7", task="condition")
    return folder


def by_pipeline(generator: Generator, **asked: Any) -> Tensor:
    """Latents of the pipeline's own call, which draws its noise itself: a video's from its own seed, as here."""
    pipeline: Any = generator.pipeline
    frames: Tensor = pipeline(
        prompt=PROMPTS,
        negative_prompt=["", ""],
        **{"num_frames": 17, "height": 64, "width": 32, "num_inference_steps": STEPS, "guidance_scale": 5.0},
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
        output_type="latent",
        **generator.call_arguments,
        **asked,
    ).frames
    return frames


def test_clips_of_text_alone_are_the_pipelines(folder: Path) -> None:
    generator = load_generator(str(folder))
    assert generator.call_arguments["guidance_rescale"] == 0.7
    guidance = Guidance(5.0, generator.encode_prompts(["", ""]))
    ours = generator.sample(generator.encode_prompts(PROMPTS), SEEDS, SIZE, steps=STEPS, guidance=guidance)
    assert_close(ours, by_pipeline(generator))
    with torch.no_grad():
        videos = generator.decode(ours)
        assert videos.shape == (2, 17, 3, 64, 32)
        assert generator.encode(videos).shape == ours.shape


def test_places_are_those_of_causal_frames(folder: Path) -> None:
    """Latents begin at frames 0, 1 and 9 of 25 a second; a place is 32 pixels."""
    generator: Any = load_generator(str(folder), weights=False)
    coords = generator.positions((2, 8, 3, 1, 2), torch.device("cpu"))["video_coords"]
    seconds = torch.tensor([0, 0, 1, 1, 9, 9]) / 25
    expected = torch.stack([seconds, torch.zeros(6), torch.tensor([0.0, 32, 0, 32, 0, 32])])
    torch.testing.assert_close(coords, expected.expand(2, -1, -1))


def test_half_the_steps_leave_a_fortieth_of_the_noise(folder: Path) -> None:
    sigmas = load_generator(str(folder), weights=False).sigmas(4, ())
    torch.testing.assert_close(sigmas, torch.tensor([1.0, 0.9875, 0.975, 0.725, 0.0]), rtol=0, atol=1e-6)


def test_a_schedule_of_the_older_kind_is_refused(folder: Path, tmp_path: Path) -> None:
    save_ltx(tmp_path, version="0.9.1", task="condition")
    with pytest.raises(ReelignError, match="shifts its levels by the number of tokens") as caught:
        load_generator(str(tmp_path), weights=False)
    assert "LTXPipeline" in caught.value.mend
