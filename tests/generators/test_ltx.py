"""LTX-Video's own ways: a shift by the number of tokens, first frames that are given, a VAE that is told a timestep."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.pipelines import PROMPTS, SEEDS, STEPS, as_held, as_latents, assert_close, by_pipeline, by_reelign
from generators.tiny_ltx import save_ltx
from reelign.diffusion.flow import add_noise, latents_from_velocity
from reelign.diffusion.samplers import initial_noise
from reelign.errors import ReelignError
from reelign.generators import Conditioning, Generator, Guidance, VideoSize, load_generator
from reelign.generators.decoding.ltx import DECODE_SEED
from reelign.generators.defaults import DEFAULTS_FILE
from reelign.generators.given_frames import FIRST
from reelign.generators.ltx import LTXImageToVideo
from reelign.generators.pictures import as_pictures
from reelign.training import Draw, LoRA, Policy, velocity_errors
from reelign.training.staged_decode import DecodeSettings, decoded_gradient

SIZE = VideoSize(9, 64, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Image-to-video over 0.9.1's VAE, with a rescale of the guidance."""
    folder = tmp_path_factory.mktemp("models") / "ltx-i2v"
    save_ltx(folder, version="0.9.1", task="image")
    (folder / DEFAULTS_FILE).write_text(json.dumps({"guidance_rescale": 0.7, "decode_noise_scale": 0.1}))
    return folder


@pytest.fixture(scope="module")
def from_image(folder: Path) -> Generator:
    return load_generator(str(folder))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def conditioning(from_image: Generator, images: Tensor) -> Conditioning:
    return from_image.encode_prompts(PROMPTS).joined(from_image.encode_condition(images, SIZE))


@pytest.fixture(scope="module")
def latents(from_image: Generator) -> Tensor:
    return torch.randn(2, *from_image.latent_shape(SIZE), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_clips_from_a_first_frame_are_the_pipelines(
    from_image: Generator, conditioning: Conditioning, scale: float
) -> None:
    """Its guidance rescaled over all frames, the given one too."""
    pipeline: Any = from_image.pipeline
    negative = from_image.encode_prompts(["", ""]).joined(Conditioning({FIRST: conditioning[FIRST]}))
    ours = from_image.sample(conditioning, SEEDS, SIZE, steps=STEPS, guidance=Guidance(scale, negative))
    start = initial_noise((2, *from_image.latent_shape(SIZE)), SEEDS, "cpu")
    start[:, :, :1] = conditioning[FIRST]
    arguments = dict(from_image.call_arguments)
    assert arguments.pop("guidance_rescale") == 0.7
    called = {
        **{"prompt": PROMPTS, "negative_prompt": ["", ""], "latents": as_held(pipeline, start)},
        **{"num_frames": 9, "height": 64, "width": 32, "num_inference_steps": STEPS, "guidance_scale": scale},
        **{"output_type": "latent", **arguments},
    }
    theirs = as_latents(pipeline, pipeline(**called, guidance_rescale=0.7).frames, from_image.latent_shape(SIZE))
    assert_close(ours, theirs)
    torch.testing.assert_close(ours[:, :, :1], conditioning[FIRST], rtol=0, atol=1e-5)
    if scale > 1:
        other = as_latents(pipeline, pipeline(**called).frames, from_image.latent_shape(SIZE))
        assert (theirs - other).abs().max() > 1e-2


def test_a_first_frame_is_encoded_as_the_pipeline_does(folder: Path, images: Tensor) -> None:
    """With a posterior of next to no width, from which the pipeline draws."""
    generator = load_generator(str(folder))
    pipeline: Any = generator.pipeline
    last: Any = pipeline.vae.encoder.conv_out.conv
    last.weight.data[-1], last.bias.data[-1] = 0, -30.0  # the log-variance of all channels
    processed = pipeline.video_processor.preprocess(as_pictures(images), height=64, width=32)
    theirs, mask = pipeline.prepare_latents(processed, 2, 8, 64, 32, 9, torch.float32, torch.device("cpu"))
    ours = generator.encode_condition(images, SIZE)
    assert_close(ours[FIRST], as_latents(pipeline, theirs, generator.latent_shape(SIZE))[:, :, :1])
    shape = (2, *generator.latent_shape(SIZE))
    given = generator.clean_mask(shape, ours)
    assert given is not None
    assert torch.equal(given.flatten(1).float(), mask)


def test_the_velocity_leads_to_what_is_given_and_no_error_counts_there(
    from_image: Generator, conditioning: Conditioning, latents: Tensor
) -> None:
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(2))
    sigma = torch.tensor([0.2, 0.9])
    noisy = add_noise(latents, noise, sigma)
    with torch.no_grad():
        velocity = from_image.velocity(noisy, sigma, conditioning)
        assert torch.isfinite(from_image.velocity(noisy, torch.zeros(2), conditioning)).all()
    clean = latents_from_velocity(noisy, velocity, sigma)
    torch.testing.assert_close(clean[:, :, :1], conditioning[FIRST], rtol=0, atol=1e-5)
    expected = (velocity - (noise - latents))[:, :, 1:].square().flatten(1).mean(dim=1)
    policy = Policy(load_generator(from_image.model, encoders=False), LoRA(rank=2))
    found = velocity_errors(policy, latents, conditioning, Draw(sigma, noise))["policy"].detach()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_vae_that_is_told_a_timestep_decodes_as_the_pipeline(tmp_path: Path) -> None:
    save_ltx(tmp_path, version="0.9.1")
    generator = load_generator(str(tmp_path))
    assert (generator.call_arguments["decode_timestep"], generator.call_arguments["decode_noise_scale"]) == (
        0.05,
        0.025,
    )
    ours = by_reelign(generator, SIZE, 5.0)
    torch.manual_seed(DECODE_SEED)  # of the noise inside the VAE
    chances = [torch.Generator().manual_seed(DECODE_SEED) for _ in SEEDS]
    expected = by_pipeline(generator.pipeline, generator, SIZE, 5.0, "pt", further={"generator": chances})
    torch.testing.assert_close(generator.decode(ours).detach(), expected, rtol=0, atol=2e-5)


def test_a_noisy_decode_is_the_same_every_time(from_image: Generator, latents: Tensor) -> None:
    before = torch.get_rng_state()
    with torch.no_grad():
        together = from_image.decode(latents)
        assert torch.equal(torch.get_rng_state(), before)
        torch.testing.assert_close(from_image.decode(latents[1:]), together[1:], rtol=0, atol=1e-5)
        assert torch.equal(from_image.decode(latents, frames=[7, 0]), together[:, [7, 0]])


def test_its_gradient_with_blocks_that_run_again_is_that_of_the_whole_decode(
    from_image: Generator, latents: Tensor
) -> None:
    def brightness(pixels: Tensor) -> Tensor:
        return pixels.square().mean()

    kept, again = (
        decoded_gradient(from_image, latents, brightness, DecodeSettings(mode=mode, checkpoint_blocks=blocks))
        for mode, blocks in (("whole", False), ("reverse", True))
    )
    torch.testing.assert_close(again.latents, kept.latents, rtol=1e-4, atol=1e-8)
    assert kept.latents.abs().min() > 0
    assert again.loss == kept.loss


@pytest.mark.parametrize(("shape", "mu"), [((8, 4, 16, 16), 0.95), ((8, 4, 32, 32), 2.05), ((8, 2, 2, 1), 0.5848)])
def test_the_shift_grows_with_the_tokens(from_image: Generator, shape: tuple[int, ...], mu: float) -> None:
    """σ' = e^μ / (e^μ + 1/σ - 1), stretched so that the last step begins at 0.1; the last μ is 0.95 - 1020·1.1/3072."""
    even = torch.linspace(1, 1 / 4, 4, dtype=torch.float64)
    shifted = math.exp(mu) / (math.exp(mu) + 1 / even - 1)
    stretched = 1 - (1 - shifted) * 0.9 / (1 - shifted[-1])
    expected = torch.cat([stretched, torch.zeros(1, dtype=torch.float64)]).float()
    torch.testing.assert_close(from_image.sigmas(4, shape), expected, rtol=0, atol=1e-4)


def test_one_step_has_no_schedule(from_image: Generator) -> None:
    with pytest.raises(ReelignError, match="1 step has not room for both"):
        from_image.sigmas(1, (8, 2, 2, 1))


@pytest.mark.parametrize(
    ("asked", "nearest"), [((161, 512, 704), (161, 512, 704)), ((80, 500, 20), (81, 512, 32)), ((1, 1, 1), (1, 32, 32))]
)
def test_the_nearest_legal_size(
    from_image: Generator, asked: tuple[int, int, int], nearest: tuple[int, int, int]
) -> None:
    assert from_image.legal(VideoSize(*asked)) == VideoSize(*nearest)


def test_the_frame_rate_is_part_of_what_the_model_is_told(folder: Path, tmp_path: Path, latents: Tensor) -> None:
    """8 frames a latent: at 16 frames a second half a second."""
    (tmp_path / DEFAULTS_FILE).write_text('{"fps": 16}')
    slow: Any = LTXImageToVideo(load_generator(str(folder), weights=False).pipeline, str(tmp_path))
    assert slow.call_arguments["frame_rate"] == 16
    assert slow.positions(latents.shape, latents.device)["rope_interpolation_scale"] == (0.5, 32, 32)


def test_text_alone_takes_no_image(loaded: dict[str, Generator], images: Tensor) -> None:
    with pytest.raises(ReelignError, match="takes no image"):
        loaded["ltx"].encode_condition(images, SIZE)
