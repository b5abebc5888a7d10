"""ModelScope's own ways: a table short of both ends, any number of frames, a U-Net that diffusers gave little."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, TextToVideoSDPipeline, UNet3DConditionModel

from generators.pipelines import PROMPTS, assert_close, by_pipeline, by_reelign
from reelign.errors import ReelignError
from reelign.generators import Generator, VideoSize, load_generator
from reelign.training import LoRA, Policy

SIZE = VideoSize(4, 16, 16)


@pytest.fixture(scope="session")
def folder(family_folders: dict[str, Path]) -> Path:
    return family_folders["modelscope"]


@pytest.fixture
def modelscope(loaded: dict[str, Generator]) -> Generator:
    return loaded["modelscope"]


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def set_scheduler(folder: Path, **values: object) -> None:
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_sampling_starts_short_of_noise_and_ends_short_of_clean(modelscope: Generator) -> None:
    """DDIM's leading spacing starts at timestep 981; `set_alpha_to_one` false makes it stop at the table's first."""
    sigmas, bar = modelscope.sigmas(50), modelscope.pipeline.scheduler.alphas_cumprod
    for sigma, alpha_bar in ((sigmas[0], bar[981]), (sigmas[-1], bar[0])):
        torch.testing.assert_close(sigma, (1 - alpha_bar).sqrt() / ((1 - alpha_bar).sqrt() + alpha_bar.sqrt()))
    assert 0.92 < float(sigmas[0]) < 0.94
    assert 0.02 < float(sigmas[-1]) < 0.04


@pytest.mark.parametrize("size", [VideoSize(1, 16, 16), VideoSize(7, 24, 32)], ids=str)
def test_any_number_of_frames_and_sizes_of_8(modelscope: Generator, size: VideoSize) -> None:
    modelscope.check(size)
    assert_close(by_reelign(modelscope, size, 5.0), by_pipeline(modelscope.pipeline, modelscope, size, 5.0))
    assert modelscope.legal(VideoSize(0, 21, 3)) == VideoSize(1, 24, 8)


def test_a_v_prediction_fine_tune_with_zero_terminal_snr_samples_as_its_pipeline(copy: Path) -> None:
    set_scheduler(
        copy, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", steps_offset=0
    )
    generator = load_generator(str(copy))
    assert float(generator.sigmas(4)[0]) == 1
    assert_close(by_reelign(generator, SIZE, 5.0), by_pipeline(generator.pipeline, generator, SIZE, 5.0))


def test_a_pipeline_saved_with_a_multistep_scheduler_samples_by_ddim_on_its_table(folder: Path, tmp_path: Path) -> None:
    pipeline: Any = TextToVideoSDPipeline.from_pretrained(folder)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.save_pretrained(tmp_path)
    generator = load_generator(str(tmp_path))
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    assert_close(by_reelign(generator, SIZE, 5.0), by_pipeline(pipeline, generator, SIZE, 5.0))


@pytest.mark.parametrize("switch", ["clip_sample", "thresholding"])
def test_a_scheduler_that_clips_is_refused(copy: Path, switch: str) -> None:
    set_scheduler(copy, **{switch: True})
    with pytest.raises(ReelignError, match="clips every estimate") as caught:
        load_generator(str(copy))
    assert switch in caught.value.mend


def test_dropout_is_off_whatever_the_policy_does(folder: Path) -> None:
    modelscope = load_generator(str(folder))
    unet = modelscope.pipeline.unet
    assert any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in unet.modules())
    Policy(modelscope, LoRA(rank=2))
    noisy, sigma = torch.randn(2, *modelscope.latent_shape(SIZE)), modelscope.path.training_sigmas(torch.rand(2))
    conditioning = modelscope.encode_prompts(PROMPTS)
    assert torch.equal(modelscope.velocity(noisy, sigma, conditioning), modelscope.velocity(noisy, sigma, conditioning))


def test_the_given_methods_leave_the_saved_class_as_it_was(folder: Path, tmp_path: Path) -> None:
    modelscope = load_generator(str(folder))
    modelscope.enable_activation_checkpointing()
    modelscope.pipeline.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["unet"] == ["diffusers", "UNet3DConditionModel"]
    again: Any = UNet3DConditionModel.from_pretrained(tmp_path, subfolder="unet")
    for name, weight in modelscope.pipeline.unet.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)


def test_two_u_nets_do_not_share_their_adapters(folder: Path, modelscope: Generator) -> None:
    Policy(load_generator(str(folder)), LoRA(rank=2))
    assert not any("lora_" in name for name, _ in modelscope.pipeline.unet.named_parameters())
    assert not hasattr(modelscope.pipeline.unet, "peft_config")
