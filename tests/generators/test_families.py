"""What every family promises: sampling, encoding and interface."""

from __future__ import annotations

import importlib
import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from generators.families import FAMILIES, images_of, sides
from generators.pipelines import (
    PROMPTS,
    SEEDS,
    STEPS,
    assert_close,
    by_pipeline,
    by_reelign,
    own_latents,
    own_pixels,
    timesteps_at,
)
from reelign.diffusion.paths import RectifiedFlow
from reelign.diffusion.samplers import initial_noise
from reelign.errors import ReelignError
from reelign.generators import Generator, Guidance, VideoSize, load_generator
from reelign.generators.encoders import holding, text_encoders


def test_sampling_and_decoding_equal_the_pipelines(family: Generator, family_folder: Path) -> None:
    """Its latents without guidance and with it, given frames included, and the video that it makes of them."""
    own, images = FAMILIES[family_folder.name], images_of(family_folder)
    told = sides(family)
    plain, guided = (by_reelign(family, own.size, scale, told) for scale in (1.0, 5.0))
    assert (plain - guided).abs().max() > own.guided
    theirs = by_pipeline(family.pipeline, family, own.size, 5.0, images=images)
    assert_close(guided, theirs, own.bound)
    assert_close(plain, by_pipeline(family.pipeline, family, own.size, 1.0, images=images), own.bound)
    given = family.clean_mask(plain.shape, told[0])
    if given is not None:
        first = told[0]["first_latents"].expand_as(plain)
        torch.testing.assert_close(guided[given.expand_as(plain)], first[given.expand_as(plain)], rtol=0, atol=1e-6)
    if family.pipeline.vae.config.get("timestep_conditioning"):
        return  # its decode draws noise: test_ltx compares it
    videos = family.decode(plain).detach()
    assert videos.shape == (2, own.size.num_frames, 3, own.size.height, own.size.width)
    expected = by_pipeline(family.pipeline, family, own.size, 1.0, "pt", images=images)
    torch.testing.assert_close(videos, expected, rtol=0, atol=own.pixel_bound)


@pytest.mark.parametrize("family_folder", [name for name, each in FAMILIES.items() if each.image], indirect=True)
def test_another_image_makes_another_video(family: Generator, family_folder: Path) -> None:
    """By each of the ways on which it comes in."""
    own, _ = sides(family)
    size = FAMILIES[family_folder.name].size
    swapped = own.take(torch.tensor([1, 0]))
    noisy = initial_noise((2, *family.latent_shape(size)), SEEDS, "cpu")
    sigma = family.path.training_sigmas(torch.tensor([0.6, 0.6]))
    with torch.no_grad():
        said = family.velocity(noisy, sigma, own)
        for name in own.tensors.keys() & {"first_latents", "image_latents", "image_embeds"}:
            other = type(own)({**own.tensors, name: swapped[name]})
            assert (family.velocity(noisy, sigma, other) - said).abs().max() > 1e-4


def test_the_schedule_falls_to_its_last_level(family: Generator, family_size: VideoSize) -> None:
    sigmas = family.sigmas(STEPS, family.latent_shape(family_size))
    assert sigmas.shape == (STEPS + 1,)
    assert (sigmas.diff() < 0).all()
    if isinstance(family.path, RectifiedFlow):
        assert (sigmas[0], sigmas[-1]) == (1, 0)


def test_the_schedule_falls_along_the_table(table_family: Generator) -> None:
    sigmas = table_family.sigmas(STEPS, ())
    table_family.pipeline.scheduler.set_timesteps(STEPS)
    assert timesteps_at(table_family, sigmas[:-1]).tolist() == table_family.pipeline.scheduler.timesteps.tolist()


def test_more_steps_than_levels_are_refused(table_family: Generator) -> None:
    with pytest.raises(ReelignError, match="1001 sampling steps are more than the 1000 noise levels"):
        table_family.sigmas(1001, ())


def test_encoding_and_decoding_equal_the_pipelines_own_path(family: Generator, family_size: VideoSize) -> None:
    """The pipelines share one processor for pixels. Chosen frames are those of the whole video."""
    videos = torch.rand(2, family_size.num_frames, 3, family_size.height, family_size.width)
    pixels = family.pipeline.video_processor.preprocess_video(videos)  # (B, 3, F, H, W) in [-1, 1]
    latents = family.encode(videos)
    assert latents.shape == (2, *family.latent_shape(family_size))
    assert latents.dtype == torch.float32
    torch.testing.assert_close(latents, own_latents(family.pipeline, pixels), rtol=0, atol=1e-6)
    # In float64: a decode in pieces rounds otherwise than the whole, and that is not what is asked.
    family.pipeline.vae.double()
    try:
        with torch.no_grad():
            own = own_pixels(family.pipeline, latents.double())
            expected = family.pipeline.video_processor.postprocess_video(own, output_type="pt")
            decoded = family.decode(latents.double())
            last = family_size.num_frames - 1
            chosen = family.decode(latents.double(), frames=[last, 1])
    finally:
        family.pipeline.vae.float()
    torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-6, check_dtype=False)
    torch.testing.assert_close(chosen, decoded[:, [last, 1]], rtol=0, atol=1e-9)


def test_decoding_is_differentiable(family: Generator, family_size: VideoSize) -> None:
    latents = torch.randn(1, *family.latent_shape(family_size), requires_grad=True)
    family.decode(latents).sum().backward()
    assert latents.grad is not None
    assert latents.grad[:, :, family.padding :].flatten(3).any(dim=3).all()


def test_prompts_and_images_encode_the_same_alone_and_together(family: Generator, family_folder: Path) -> None:
    together = family.encode_prompts([*PROMPTS, ""])["prompt_embeds"]
    for row, prompt in enumerate([*PROMPTS, ""]):
        alone = family.encode_prompts([prompt])["prompt_embeds"][0]
        torch.testing.assert_close(together[row], alone, rtol=0, atol=1e-5)
    assert not together.requires_grad
    images, size = images_of(family_folder), FAMILIES[family_folder.name].size
    if images is not None:
        both = family.encode_condition(images, size)
        one = family.encode_condition(images[1:], size)
        assert len(both) == 2
        for name, tensor in one.tensors.items():
            torch.testing.assert_close(both[name][1:], tensor, rtol=0, atol=1e-5)


def test_text_is_encoded_while_all_else_that_encodes_is_away(family: Generator, family_folder: Path) -> None:
    """As caches do it: the pipeline is asked while its other encoders have no weights."""
    lean = load_generator(str(family_folder), encoders=False)
    with holding(lean, *text_encoders(lean)):
        found = lean.encode_prompts(PROMPTS)
    for name, tensor in family.encode_prompts(PROMPTS).tensors.items():
        assert torch.equal(found[name], tensor)


def test_a_batch_of_mixed_sigmas_equals_single_calls(family: Generator, family_size: VideoSize) -> None:
    noisy = initial_noise((2, *family.latent_shape(family_size)), SEEDS, "cpu")
    sigma = family.path.training_sigmas(torch.tensor([0.1, 0.9]))
    conditioning, _ = sides(family)
    with torch.no_grad():
        together = family.velocity(noisy, sigma, conditioning)
        assert together.shape == noisy.shape
        assert together.dtype == torch.float32
        for row in range(2):
            one = torch.tensor([row])
            alone = family.velocity(noisy[one], sigma[one], conditioning.take(one))
            # Relative to the largest: near pure noise an epsilon's rounding is divided by what little is left of video.
            atol = 1e-5 * max(1.0, float(alone.abs().max()))
            torch.testing.assert_close(together[one], alone, rtol=1e-5, atol=atol)


def test_weights_are_frozen_and_in_eval_mode(family: Generator) -> None:
    for module in (*family.denoisers.values(), family.pipeline.vae):
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())


def test_bf16_leaves_the_vae_and_the_velocity_in_fp32(family_folder: Path, family_size: VideoSize) -> None:
    generator = load_generator(str(family_folder), dtype=torch.bfloat16)
    kept = {each.dtype for each in next(iter(generator.denoisers.values())).parameters()}
    assert torch.bfloat16 in kept  # beside what diffusers keeps in fp32, such as Wan's tables
    assert generator.pipeline.vae.dtype == torch.float32
    own, negative = sides(generator)
    latents = generator.sample(own, SEEDS, family_size, steps=2, guidance=Guidance(5.0, negative))
    assert latents.dtype == torch.float32
    assert torch.isfinite(latents).all()
    assert generator.decode(latents[:1]).dtype == torch.float32


def test_a_size_that_it_cannot_make_is_refused_with_the_nearest(family: Generator, family_size: VideoSize) -> None:
    family.check(family_size)
    odd = VideoSize(0, family_size.height + 1, family_size.width + 3)
    nearest = family.legal(odd)
    assert family.legal(nearest) == nearest
    with pytest.raises(ReelignError, match=f"cannot make {odd}") as caught:
        family.check(odd)
    assert str(nearest) in caught.value.mend


def test_the_call_that_is_printed_is_one_that_the_pipeline_takes(family: Generator, family_size: VideoSize) -> None:
    """By the names of its arguments; the class is where it is said to be."""
    asked: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 5.0, "negative_prompt": ""}
    size = {"num_frames": family_size.num_frames, "height": family_size.height, "width": family_size.width}
    call = family.pipeline_call({**asked, **size})
    kind = plain_class(call)
    # Of every class that has a say: VideoCrafter2's hands on what it does not take itself.
    calls = [vars(each)["__call__"] for each in kind.__mro__ if "__call__" in vars(each)]
    taken = {name for each in calls for name in inspect.signature(each).parameters}
    assert not call["arguments"].keys() - taken
    assert ("prompt" in taken) == call.get("reads_prompts", True)


def plain_class(call: dict[str, Any]) -> Any:
    """The class of a printed call, as a script imports it."""
    return getattr(importlib.import_module(call["module"]), call["pipeline"])


@pytest.fixture
def copy(family_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(family_folder, tmp_path / family_folder.name))


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_weights_that_are_missing_from_the_file_or_have_no_place_are_refused(copy: Path) -> None:
    """The second as VideoCrafter's fps embedding in this U-Net: diffusers would drop it and make other videos."""
    path = denoiser_weights(copy)
    weights = load_file(path)
    name = next(name for name in sorted(weights) if "to_q" in name or "q_linear" in name)
    save_file({key: each for key, each in weights.items() if key != name}, path, metadata={"format": "pt"})
    with pytest.raises(ReelignError, match="lacks the weight " + name.replace(".", r"\.")):
        load_generator(str(copy), encoders=False)
    save_file({**weights, "fps_embedding.weight": torch.zeros(2)}, path, metadata={"format": "pt"})
    with pytest.raises(ReelignError, match=r"without a place for it, the weight fps_embedding\.weight"):
        load_generator(str(copy), encoders=False)


def denoiser_weights(folder: Path) -> Path:
    part = next(folder / name for name in ("transformer", "unet") if (folder / name).is_dir())
    return next(part.glob("*.safetensors"))


@pytest.fixture
def table_copy(table_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(table_folder, tmp_path / table_folder.name))


def test_a_table_that_no_path_here_has_is_refused(table_copy: Path) -> None:
    config = table_copy / "scheduler" / "scheduler_config.json"
    edit(config, prediction_type="sample")
    with pytest.raises(ReelignError, match="predicts 'sample'"):
        load_generator(str(table_copy), encoders=False, weights=False)
    edit(config, prediction_type="epsilon", rescale_betas_zero_snr=True)
    with pytest.raises(ReelignError, match="zero terminal SNR") as caught:
        load_generator(str(table_copy), encoders=False, weights=False)
    assert "scheduler_config.json" in caught.value.mend
