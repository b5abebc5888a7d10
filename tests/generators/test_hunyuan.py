"""HunyuanVideo's own ways: a template before the prompt, an embedded scale, a decode in tiles."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from torch import Tensor

from generators.pipelines import PROMPTS, assert_close, by_pipeline, by_reelign
from generators.tiny_hunyuan import LENGTH, save_hunyuan
from reelign.errors import ReelignError
from reelign.generators import Generator, Guidance, VideoSize, load_generator
from reelign.recipes.sampling import GenerateSettings, Sampling

SIZE = VideoSize(9, 16, 16)


@pytest.fixture
def hunyuan(loaded: dict[str, Generator]) -> Generator:
    return loaded["hunyuan"]


def noisy(generator: Generator, seed: int = 0) -> Tensor:
    return torch.randn(2, *generator.latent_shape(SIZE), generator=torch.Generator().manual_seed(seed))


def test_text_is_what_llama_makes_of_the_prompt_behind_the_template(hunyuan: Generator) -> None:
    found = hunyuan.encode_prompts(["a disc", ""])
    pipeline: Any = hunyuan.pipeline
    for row, prompt in enumerate(["a disc", ""]):
        text = DEFAULT_PROMPT_TEMPLATE["template"].format(prompt)
        tokens = pipeline.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            states = pipeline.text_encoder(**tokens, output_hidden_states=True).hidden_states[-3][0]
        own = len(pipeline.tokenizer(prompt)["input_ids"])  # with one mark in front here and one behind there
        assert len(states) == 95 + own
        torch.testing.assert_close(found["prompt_embeds"][row, :own], states[95:], rtol=0, atol=1e-6)
        assert found["prompt_attention_mask"][row].tolist() == [1] * own + [0] * (LENGTH - own)


def test_a_tokenizer_that_would_pad_on_the_left_is_told_not_to(hunyuan: Generator, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(hunyuan.model, tmp_path / "copy"))
    edit(copy / "tokenizer" / "tokenizer_config.json", padding_side="left")
    found = load_generator(str(copy)).encode_prompts(PROMPTS)
    for name, tensor in hunyuan.encode_prompts(PROMPTS).tensors.items():
        assert torch.equal(found[name], tensor)


def test_the_scale_is_embedded_and_a_negative_prompt_plays_no_part(hunyuan: Generator) -> None:
    latents, sigma = noisy(hunyuan), torch.tensor([0.2, 0.9])
    own, other = hunyuan.encode_prompts(PROMPTS), hunyuan.encode_prompts(["", "blue"])
    with torch.no_grad():
        said = hunyuan.pipeline.transformer(
            *(latents, sigma * 1000, own["prompt_embeds"], own["prompt_attention_mask"]),
            *(own["pooled_prompt_embeds"], torch.full((2,), 5000.0)),
            return_dict=False,
        )[0]
        assert torch.equal(hunyuan.guided_velocity(latents, sigma, own, Guidance(5.0, other)), said)
        assert torch.equal(hunyuan.guided_velocity(latents, sigma, own, Guidance(5.0)), said)
        # Errors are those at a scale of 1, where a second pass would have been left out.
        alone = hunyuan.velocity(latents, sigma, own)
        assert torch.equal(hunyuan.guided_velocity(latents, sigma, own, Guidance(1.0)), alone)
    assert (alone - said).abs().max() > 1e-3


def test_a_negative_prompt_is_refused_not_passed_over(hunyuan: Generator) -> None:
    size: dict[str, Any] = {"num_frames": 9, "height": 16, "width": 16}
    assert Sampling.resolve(GenerateSettings(**size), hunyuan).guidance_scale == 6.0
    with pytest.raises(ReelignError, match="negative prompt plays no part"):
        Sampling.resolve(GenerateSettings(**size, negative_prompt="blurry"), hunyuan)


def test_a_model_that_is_not_distilled_is_guided_by_a_second_pass(tmp_path: Path) -> None:
    save_hunyuan(tmp_path, distilled=False)
    generator = load_generator(str(tmp_path))
    ours = by_reelign(generator, SIZE, 5.0)
    assert_close(ours, by_pipeline(generator.pipeline, generator, SIZE, 1.0, further={"true_cfg_scale": 5.0}))
    assert (ours - by_reelign(generator, SIZE, 1.0)).abs().max() > 1e-2
    assert generator.takes_negative_prompts
    assert generator.pipeline_call({"guidance_scale": 5.0})["arguments"]["true_cfg_scale"] == 5.0


def test_a_denoiser_that_takes_images_is_no_model_of_text_alone(hunyuan: Generator, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(hunyuan.model, tmp_path / "copy"))
    edit(copy / "transformer" / "config.json", image_condition_type="token_replace")
    with pytest.raises(ReelignError, match="takes images by token_replace") as caught:
        load_generator(str(copy))
    assert "transformer/config.json" in caught.value.mend


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [((10, 16, 16), (9, 16, 16)), ((12, 16, 40), (13, 16, 32)), ((2, 1, 25), (1, 16, 32)), ((5, 31, 16), (5, 32, 16))],
)
def test_a_size_that_would_be_cut_is_refused_with_the_nearest(
    hunyuan: Generator, asked: tuple[int, int, int], nearest: tuple[int, int, int]
) -> None:
    with pytest.raises(ReelignError, match=f"{VideoSize(*asked)}[^$]*nearest[^$]*{VideoSize(*nearest)}"):
        hunyuan.check(VideoSize(*asked))


@pytest.mark.parametrize("name", ["hunyuan", "hunyuan15"])
def test_chosen_frames_are_those_of_the_whole_video(loaded: dict[str, Generator], name: str) -> None:
    latents = noisy(loaded[name])
    with torch.no_grad():
        whole = loaded[name].decode(latents)
        torch.testing.assert_close(loaded[name].decode(latents, frames=[6, 1]), whole[:, [6, 1]], rtol=0, atol=1e-5)


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
