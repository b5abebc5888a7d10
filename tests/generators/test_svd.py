"""Stable Video Diffusion through reelign equals it through its own pipeline; what it learns, and what it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from generators.test_callback import drawn_reward
from generators.tiny_svd import save_svd
from reelign.diffusion.guidance import RewardGuidance
from reelign.diffusion.samplers import initial_noise
from reelign.errors import ReelignError
from reelign.generators import Conditioning, Generator, Guidance, VideoSize, load_generator
from reelign.generators.defaults import DEFAULTS_FILE
from reelign.generators.svd import NOISE_SEED
from reelign.records import image_prompt
from reelign.training.latent_callback import pipeline_guide
from reelign.training.latent_guide import LatentGuide
from reelign.training.latent_reward_files import save_latent_reward

SIZE = VideoSize(3, 16, 16)
SEEDS = [3, 4]
STEPS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models") / "svd"
    save_svd(place)
    return place


@pytest.fixture(scope="module")
def model(folder: Path) -> Generator:
    return load_generator(str(folder))


@pytest.fixture(scope="module")
def images() -> Tensor:
    """(2, 3, 20, 28) whole 255ths, of a size and a shape that is not the clips'."""
    return torch.randint(0, 256, (2, 3, 20, 28), generator=torch.Generator().manual_seed(0)).float() / 255


@pytest.fixture(scope="module")
def conditioning(model: Generator, images: Tensor) -> Conditioning:
    return model.encode_prompts(["a", "b"]).joined(model.encode_condition(images, SIZE))


def by_reelign(model: Generator, conditioning: Conditioning, scale: float) -> Tensor:
    return model.sample(conditioning, SEEDS, SIZE, steps=STEPS, guidance=Guidance(scale, conditioning))


def by_pipeline(
    pipeline: Any, model: Generator, images: Tensor, scale: float, output: str = "latent", **further: Any
) -> Tensor:
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    noise = initial_noise((len(SEEDS), *model.latent_shape(SIZE)), SEEDS, "cpu")
    pipeline.set_progress_bar_config(disable=True)
    frames: Tensor = pipeline(
        image=[Image.fromarray(each) for each in pixels],
        num_frames=SIZE.num_frames,
        height=SIZE.height,
        width=SIZE.width,
        num_inference_steps=STEPS,
        max_guidance_scale=scale,
        latents=noise.transpose(1, 2),
        generator=[torch.Generator().manual_seed(NOISE_SEED) for _ in SEEDS],
        output_type=output,
        **model.call_arguments,
        **further,
    ).frames
    return frames.transpose(1, 2) if output == "latent" else frames


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))


def test_the_callback_guides_a_clip_that_goes_on_from_an_image(
    model: Generator, conditioning: Conditioning, images: Tensor, tmp_path: Path
) -> None:
    reward = drawn_reward(model, conditioning, SIZE)
    save_latent_reward(reward, tmp_path / "reward")
    asked = []
    for place, pixels in enumerate((images * 255).round().byte().permute(0, 2, 3, 1).numpy()):
        Image.fromarray(pixels).save(tmp_path / f"{place}.png")
        asked.append(image_prompt("a", tmp_path / f"{place}.png"))
    settings = RewardGuidance(sigma_range=(0.0, float(model.sigmas(STEPS, ())[1])), max_share=0.5)
    weights: dict[str, Any] = {"VQ": torch.tensor([2000.0, -2000.0])}
    guide = pipeline_guide(model.pipeline, tmp_path / "reward", weights, prompts=asked, size=SIZE, settings=settings)
    callback = {"callback_on_step_end": guide, "callback_on_step_end_tensor_inputs": guide.inputs}
    theirs = by_pipeline(model.pipeline, model, images, 3.0, **callback)
    steer = LatentGuide(reward, weights, settings)
    against = Guidance(3.0, conditioning)
    ours = model.sample(conditioning, SEEDS, SIZE, steps=STEPS, guidance=against, steer=steer)
    assert_near(ours, theirs)
    assert float((ours - by_reelign(model, conditioning, 3.0)).abs().max()) > 1e-2 * float(ours.abs().max())
    with pytest.raises(ReelignError, match="goes on from an image"):
        pipeline_guide(model.pipeline, tmp_path / "reward", weights, prompts=["a", "b"], size=SIZE)


def test_guidance_grows_along_the_clip(model: Generator, conditioning: Conditioning) -> None:
    """The first frame has none; the last has the scale, away from an image of zeros."""
    noisy, sigma = initial_noise((2, *model.latent_shape(SIZE)), SEEDS, "cpu"), torch.tensor([0.5, 0.9])
    zeros = Conditioning({name: torch.zeros_like(each) for name, each in conditioning.tensors.items()})
    with torch.no_grad():
        plain, nothing = model.velocity(noisy, sigma, conditioning), model.velocity(noisy, sigma, zeros)
        guided = model.guided_velocity(noisy, sigma, conditioning, Guidance(3.0, conditioning))
    torch.testing.assert_close(guided[:, :, 0], plain[:, :, 0], rtol=0, atol=1e-5)
    expected = nothing[:, :, 2] + 3 * (plain - nothing)[:, :, 2]
    torch.testing.assert_close(guided[:, :, 2], expected, rtol=1e-4, atol=1e-4)


def test_the_schedule_is_karras_from_700_to_clean(model: Generator) -> None:
    own = (torch.linspace(700 ** (1 / 7), 0.002 ** (1 / 7), STEPS, dtype=torch.float64) ** 7).tolist()
    expected = torch.tensor([*(level / (1 + level) for level in own), 0.0])
    torch.testing.assert_close(model.sigmas(STEPS), expected, rtol=1e-6, atol=1e-6)


def test_what_it_is_told_stands_beside_its_weights(folder: Path, conditioning: Conditioning, tmp_path: Path) -> None:
    for part in folder.iterdir():
        (tmp_path / part.name).symlink_to(part)
    (tmp_path / DEFAULTS_FILE).write_text(json.dumps({"told": {"motion_bucket_id": 40, "decode_chunk_size": 2}}))
    told = load_generator(str(tmp_path))
    assert told.call_arguments == {"fps": 7, "motion_bucket_id": 40, "noise_aug_strength": 0.02, "decode_chunk_size": 2}
    latents = torch.randn(1, *told.latent_shape(SIZE))
    pieces = torch.cat([told.decode(latents[:, :, :2]), told.decode(latents[:, :, 2:])], dim=1)
    torch.testing.assert_close(told.decode(latents), pieces)


def test_bad_input_is_refused(model: Generator, folder: Path, tmp_path: Path) -> None:
    noisy = initial_noise((2, *model.latent_shape(SIZE)), SEEDS, "cpu")
    with pytest.raises(ReelignError, match="there is none") as caught:
        model.velocity(noisy, torch.tensor([0.5, 0.5]), model.encode_prompts(["a", "b"]))
    assert "image" in caught.value.mend
    assert model.legal(VideoSize(0, 21, 3)) == VideoSize(1, 24, 8)
    for part in folder.iterdir():
        if part.name != "scheduler":
            (tmp_path / part.name).symlink_to(part)
    (tmp_path / "scheduler").mkdir()
    path = "scheduler/scheduler_config.json"
    (tmp_path / path).write_text(json.dumps({**json.loads((folder / path).read_text()), "timestep_type": "discrete"}))
    with pytest.raises(ReelignError, match="is not EDM's"):
        load_generator(str(tmp_path))
