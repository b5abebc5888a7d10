"""What every family promises: sampling, encoding and interface. Wan has its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

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
from reelign.generators import Generator, VideoSize, load_generator


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_sampling_equals_the_pipelines_latents(family: Generator, family_size: VideoSize, scale: float) -> None:
    theirs = by_pipeline(family.pipeline, family, family_size, scale)
    # The widths of 64 that its released layout fixes round further: 2.03e-6 was seen, guided.
    assert_close(by_reelign(family, family_size, scale), theirs, 5e-6 if is_videocrafter2(family.pipeline) else 2e-6)


def is_videocrafter2(pipeline: object) -> bool:
    return type(pipeline).__name__ == "VideoCrafter2Pipeline"


def test_guidance_changes_the_sample(family: Generator, family_size: VideoSize) -> None:
    assert (by_reelign(family, family_size, 1.0) - by_reelign(family, family_size, 5.0)).abs().max() > 1e-2


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


def test_decoding_equals_the_pipelines_video(family: Generator, family_size: VideoSize) -> None:
    expected = by_pipeline(family.pipeline, family, family_size, 5.0, "pt")
    videos = family.decode(by_reelign(family, family_size, 5.0)).detach()
    assert videos.shape == (2, family_size.num_frames, 3, family_size.height, family_size.width)
    torch.testing.assert_close(videos, expected, rtol=0, atol=2e-5)


def test_encoding_and_decoding_equal_the_pipelines_own_path(family: Generator, family_size: VideoSize) -> None:
    """The pipelines share one processor for pixels."""
    videos = torch.rand(2, family_size.num_frames, 3, family_size.height, family_size.width)
    pixels = family.pipeline.video_processor.preprocess_video(videos)  # (B, 3, F, H, W) in [-1, 1]
    latents = family.encode(videos)
    assert latents.shape == (2, *family.latent_shape(family_size))
    assert latents.dtype == torch.float32
    torch.testing.assert_close(latents, own_latents(family.pipeline, pixels), rtol=0, atol=1e-6)
    # In float64: a decode in pieces rounds otherwise than the whole, and that is not what is asked.
    family.pipeline.vae.double()
    try:
        own = own_pixels(family.pipeline, latents.double())
        expected = family.pipeline.video_processor.postprocess_video(own, output_type="pt")
        decoded = family.decode(latents.double())
    finally:
        family.pipeline.vae.float()
    torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-6, check_dtype=False)


def test_decoding_is_differentiable(family: Generator, family_size: VideoSize) -> None:
    latents = torch.randn(1, *family.latent_shape(family_size), requires_grad=True)
    family.decode(latents).sum().backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0


def test_prompts_encode_the_same_alone_and_together(family: Generator) -> None:
    together = family.encode_prompts([*PROMPTS, ""])["prompt_embeds"]
    for row, prompt in enumerate([*PROMPTS, ""]):
        alone = family.encode_prompts([prompt])["prompt_embeds"][0]
        torch.testing.assert_close(together[row], alone, rtol=0, atol=1e-5)
    assert not together.requires_grad


def test_a_batch_of_mixed_sigmas_equals_single_calls(family: Generator, family_size: VideoSize) -> None:
    noisy = initial_noise((2, *family.latent_shape(family_size)), SEEDS, "cpu")
    sigma = family.path.training_sigmas(torch.tensor([0.1, 0.9]))
    conditioning = family.encode_prompts(PROMPTS)
    together = family.velocity(noisy, sigma, conditioning)
    assert together.shape == noisy.shape
    assert together.dtype == torch.float32
    for row in range(2):
        one = torch.tensor([row])
        alone = family.velocity(noisy[one], sigma[one], conditioning.take(one))
        # Relative to the largest: near pure noise an epsilon's rounding is divided by the little that is left of video.
        torch.testing.assert_close(together[one], alone, rtol=1e-5, atol=1e-5 * max(1.0, float(alone.abs().max())))


def test_weights_are_frozen_and_in_eval_mode(family: Generator) -> None:
    for module in (*family.denoisers.values(), family.pipeline.vae):
        assert not module.training
        assert not any(parameter.requires_grad for parameter in module.parameters())


def test_bf16_leaves_the_vae_and_the_velocity_in_fp32(family_folder: Path, family_size: VideoSize) -> None:
    generator = load_generator(str(family_folder), dtype=torch.bfloat16)
    kept = {each.dtype for each in next(iter(generator.denoisers.values())).parameters()}
    assert torch.bfloat16 in kept  # beside what diffusers keeps in fp32, such as Wan's tables
    assert generator.pipeline.vae.dtype == torch.float32
    latents = by_reelign(generator, family_size, 5.0)
    assert latents.dtype == torch.float32
    assert torch.isfinite(latents).all()
    assert generator.decode(latents).dtype == torch.float32


@pytest.fixture
def copy(family_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(family_folder, tmp_path / "copy"))


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_weight_that_is_missing_from_the_file_is_refused(copy: Path) -> None:
    path = denoiser_weights(copy)
    weights = load_file(path)
    name = next(name for name in sorted(weights) if "to_q" in name or "q_linear" in name)
    del weights[name]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ReelignError, match="lacks the weight " + name.replace(".", r"\.")):
        load_generator(str(copy))


def test_a_weight_that_the_model_has_no_place_for_is_refused(copy: Path) -> None:
    """As VideoCrafter's fps embedding in this U-Net: diffusers would drop it and make other videos."""
    path = denoiser_weights(copy)
    save_file({**load_file(path), "fps_embedding.weight": torch.zeros(2)}, path, metadata={"format": "pt"})
    with pytest.raises(ReelignError, match=r"without a place for it, the weight fps_embedding\.weight"):
        load_generator(str(copy))


def denoiser_weights(folder: Path) -> Path:
    part = next(folder / name for name in ("transformer", "unet") if (folder / name).is_dir())
    return next(part.glob("*.safetensors"))


@pytest.fixture
def table_copy(table_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(table_folder, tmp_path / "copy"))


def test_a_prediction_that_no_path_here_has_is_refused(table_copy: Path) -> None:
    edit(table_copy / "scheduler" / "scheduler_config.json", prediction_type="sample")
    with pytest.raises(ReelignError, match="predicts 'sample'"):
        load_generator(str(table_copy))


def test_an_epsilon_model_with_zero_terminal_snr_is_refused(table_copy: Path) -> None:
    edit(table_copy / "scheduler" / "scheduler_config.json", prediction_type="epsilon", rescale_betas_zero_snr=True)
    with pytest.raises(ReelignError, match="zero terminal SNR") as caught:
        load_generator(str(table_copy))
    assert "scheduler_config.json" in caught.value.mend
