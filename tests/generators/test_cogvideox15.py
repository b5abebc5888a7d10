"""CogVideoX 1.5 and CogVideoX image-to-video through reelign equal their own pipelines."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from generators.pipelines import PROMPTS, SEEDS, STEPS, assert_close, by_pipeline, by_reelign
from generators.tiny_cogvideox import save_cogvideox15, save_cogvideox_i2v
from reelign.diffusion.samplers import initial_noise
from reelign.errors import ReelignError
from reelign.generators import Generator, Guidance, VideoSize, load_generator
from reelign.training import LoRA, Policy, load_adapter

SIZE = VideoSize(9, 16, 16)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    models = tmp_path_factory.mktemp("models")
    save_cogvideox15(models / "1.5")
    save_cogvideox_i2v(models / "5b-i2v", fifteen=False)
    save_cogvideox_i2v(models / "1.5-i2v", fifteen=True)
    return {name: models / name for name in ("1.5", "5b-i2v", "1.5-i2v")}


@pytest.fixture(scope="module")
def fifteen(folders: dict[str, Path]) -> Generator:
    return load_generator(str(folders["1.5"]))


@pytest.fixture(params=["5b-i2v", "1.5-i2v"])
def i2v(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Generator:
    return load_generator(str(folders[request.param]))


@pytest.mark.parametrize("size", [SIZE, VideoSize(17, 16, 32)], ids=str)
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


def test_other_patches_over_time_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folders["1.5"], tmp_path / "copy"))
    model: Any = load_generator(str(copy)).pipeline.transformer
    type(model).from_config({**model.config, "patch_size_t": 3}).save_pretrained(copy / "transformer")
    with pytest.raises(ReelignError, match="takes 3 latent frames a token"):
        load_generator(str(copy))


def images_of(count: int) -> Tensor:
    chance = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 16, 16), generator=chance, dtype=torch.uint8)


def test_image_to_video_equals_the_pipelines(i2v: Generator) -> None:
    """The pipeline draws the image's latents; the miniature's encoder leaves it no variance to draw from."""
    images = images_of(2)
    given = i2v.encode_condition(images / 255, SIZE)
    guidance = Guidance(5.0, i2v.encode_prompts(["", ""]).joined(given))
    ours = i2v.sample(i2v.encode_prompts(PROMPTS).joined(given), SEEDS, SIZE, steps=STEPS, guidance=guidance)
    noise = initial_noise((2, *i2v.latent_shape(SIZE)), SEEDS, "cpu")
    for row, image in enumerate(images):
        theirs: Tensor = i2v.pipeline(
            image=Image.fromarray(image.permute(1, 2, 0).numpy()),
            prompt=PROMPTS[row],
            negative_prompt="",
            num_frames=SIZE.num_frames,
            height=16,
            width=16,
            num_inference_steps=STEPS,
            guidance_scale=5.0,
            latents=noise[row : row + 1].transpose(1, 2),
            output_type="latent",
            **i2v.call_arguments,
        ).frames.transpose(1, 2)
        assert_close(ours[row : row + 1], theirs)
    assert (ours - ours.flip(0)).abs().max() > 1e-2


def test_an_adapter_of_image_to_video_changes_the_sample_and_loads_again(i2v: Generator, tmp_path: Path) -> None:
    given = i2v.encode_condition(images_of(1) / 255, SIZE)
    conditioning = i2v.encode_prompts(PROMPTS[:1]).joined(given)
    noisy = torch.randn(1, *i2v.latent_shape(SIZE), generator=torch.Generator().manual_seed(0))
    sigma = i2v.path.training_sigmas(torch.tensor([0.5]))
    with torch.no_grad():
        before = i2v.velocity(noisy, sigma, conditioning)
    policy = Policy(i2v, LoRA(rank=2))
    policy.load_state_dict({name: each + 0.1 for name, each in policy.state_dict().items()})
    policy.save(tmp_path)
    with torch.no_grad():
        after = i2v.velocity(noisy, sigma, conditioning)
        again = load_generator(i2v.model)
        load_adapter(again, tmp_path)
        torch.testing.assert_close(again.velocity(noisy, sigma, conditioning), after)
    assert (after - before).abs().max() > 1e-2


def test_learned_places_are_for_one_size_alone(folders: dict[str, Path]) -> None:
    generator = load_generator(str(folders["5b-i2v"]))
    assert generator.legal(VideoSize(17, 32, 32)) == SIZE
    config = json.loads((folders["5b-i2v"] / "transformer" / "config.json").read_text())
    assert config["use_learned_positional_embeddings"]
