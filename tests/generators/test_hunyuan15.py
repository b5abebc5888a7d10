"""HunyuanVideo 1.5's own ways: a guider, glyphs in quotes, first frames beside the latents, checkpoints that differ."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from generators.pipelines import STEPS
from generators.tiny_hunyuan15 import SIDE, save_hunyuan15
from reelign.errors import ReelignError
from reelign.generators import Conditioning, Generator, VideoSize, load_generator
from reelign.generators.given_frames import FIRST
from reelign.generators.hunyuan15 import FEATURES

SIZE = VideoSize(9, SIDE, SIDE)
PROMPTS = ['a red "square" moves left', "a disc"]


@pytest.fixture
def from_image(loaded: dict[str, Generator]) -> Generator:
    return loaded["hunyuan15-i2v"]


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Nearly square, so that the pipeline makes square clips of them and cuts their sides."""
    return torch.rand(2, 3, 40, 42, generator=torch.Generator().manual_seed(0))


def test_clips_are_encoded_and_decoded_in_any_batch(from_image: Generator) -> None:
    """diffusers' own VAE fails on more than one, as the mask of its attention fits one."""
    videos = torch.rand(2, 5, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        latents = from_image.encode(videos)
        back = from_image.decode(latents)
        for row in range(2):
            one = slice(row, row + 1)
            torch.testing.assert_close(from_image.encode(videos[one]), latents[one])
            torch.testing.assert_close(from_image.decode(latents[one]), back[one], rtol=0, atol=1e-5)


def test_frame_and_prompt_and_glyphs_each_count(from_image: Generator, images: Tensor) -> None:
    conditions, texts = from_image.encode_condition(images, SIZE), from_image.encode_prompts(PROMPTS)
    own = texts.joined(conditions)
    latents, sigma = torch.randn(2, *from_image.latent_shape(SIZE)), torch.tensor([0.3, 0.8])
    others = [{name: own[name].flip(0)} for name in (FIRST, FEATURES, "prompt_embeds")]
    others.append({name: own[name].flip(0) for name in ("prompt_embeds_2", "prompt_embeds_mask_2")})
    with torch.no_grad():
        said = from_image.velocity(latents, sigma, own)
        for other in others:
            changed = from_image.velocity(latents, sigma, own.joined(Conditioning(other)))
            assert (changed - said).abs().max() > 1e-4


def test_only_what_is_in_quotes_is_read_as_glyphs(loaded: dict[str, Generator]) -> None:
    found = loaded["hunyuan15"].encode_prompts(PROMPTS)
    assert found["prompt_embeds_mask_2"].sum(dim=1).tolist() == [16, 0]  # bytes of Text "square". and a mark
    assert found["prompt_embeds_2"][0].abs().sum() > 0
    assert found["prompt_embeds_2"][1].abs().sum() == 0


def test_a_checkpoint_says_its_own_size_and_scale(loaded: dict[str, Generator], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(loaded["hunyuan15"].model, tmp_path / "copy"))
    assert load_generator(str(copy), weights=False).defaults.guidance_scale == 6.0
    edit(copy / "transformer" / "config.json", target_size=960)
    edit(copy / "guider" / "guider_config.json", guidance_scale=1.0)
    defaults = load_generator(str(copy)).defaults
    assert (defaults.guidance_scale, defaults.num_frames) == (1.0, 121)
    assert defaults.height < defaults.width
    assert abs(defaults.height * defaults.width / 960**2 - 1) < 0.02
    (copy / "reelign.json").write_text(json.dumps({"guidance_scale": 2.0}))
    assert load_generator(str(copy)).defaults.guidance_scale == 2.0


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        ("guider/guider_config.json", {"guidance_rescale": 0.7}, "more than classifier-free guidance"),
        ("guider/guider_config.json", {"start": 0.2}, "more than classifier-free guidance"),
    ],
)
def test_guidance_of_another_kind_is_refused(
    loaded: dict[str, Generator], tmp_path: Path, file: str, values: dict[str, float], said: str
) -> None:
    copy = Path(shutil.copytree(loaded["hunyuan15"].model, tmp_path / "copy"))
    edit(copy / file, **values)
    with pytest.raises(ReelignError, match=said) as caught:
        load_generator(str(copy))
    assert "ClassifierFreeGuidance" in caught.value.mend


def test_a_model_distilled_to_a_few_steps_is_refused(tmp_path: Path) -> None:
    save_hunyuan15(tmp_path, meanflow=True)
    with pytest.raises(ReelignError, match="MeanFlow"):
        load_generator(str(tmp_path))


def test_the_line_that_is_printed_sets_the_scale_and_gives_the_pipeline_adapters(loaded: dict[str, Generator]) -> None:
    """In a class of its own, as the line changes the class; every family's adapter is loaded after such a line."""
    own = loaded["hunyuan15"]
    call = own.pipeline_call({"guidance_scale": 5.0, "num_inference_steps": STEPS})
    assert call["arguments"] == {"num_inference_steps": STEPS}
    assert (call["module"], call["pipeline"]) == ("diffusers", "HunyuanVideo15Pipeline")
    plain = type("Plain", (diffusers.HunyuanVideo15Pipeline,), {})
    pipe: Any = plain(**own.pipeline.components)
    exec(call["adapter_line"], {"pipe": pipe, "diffusers": diffusers})
    assert pipe.guider.guidance_scale == 5.0
    assert callable(pipe.load_lora_weights)


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
