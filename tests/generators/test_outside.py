"""A family kept outside the package, named beside the weights: the whole example of the documentation runs."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    SkyReelsV2Pipeline,
    SkyReelsV2Transformer3DModel,
)

from generators.pipelines import PROMPTS, SEEDS, STEPS, assert_close, by_reelign
from generators.tiny import awake, t5_text, tokenizer
from reelign.diffusion.samplers import initial_noise
from reelign.errors import ReelignError
from reelign.generators import Generator, VideoSize, load_generator
from reelign.generators.defaults import DEFAULTS_FILE
from reelign.generators.ltx import LTXImageToVideo
from reelign.opening import known_model
from reelign.training import Draw, LoRA, Policy, velocity_errors

DOCS = Path(__file__).parents[2] / "docs" / "family-of-your-own.md"
SIZE = VideoSize(9, 16, 16)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The module `skyreels` of the documentation, where Python finds it."""
    (code,) = re.findall(r"```python\n(\"\"\"skyreels.*?)```", DOCS.read_text(), re.DOTALL)
    path = tmp_path / "skyreels.py"
    path.write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    sys.modules.pop("skyreels", None)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SkyReels-V2's layout with the `reelign.json` of the documentation."""
    folder = tmp_path_factory.mktemp("models") / "skyreels-v2"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        SkyReelsV2Pipeline(
            tokenizer=tokenizer(),
            text_encoder=t5_text(),
            transformer=awake(
                SkyReelsV2Transformer3DModel(
                    num_attention_heads=2,
                    attention_head_dim=12,
                    text_dim=32,
                    ffn_dim=32,
                    num_layers=2,
                    rope_max_seq_len=32,
                )
            ),
            vae=AutoencoderKLWan(
                base_dim=3, dim_mult=[1] * 4, num_res_blocks=1, temperal_downsample=[False, True, True]
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=8.0),
        ).save_pretrained(folder)
    (line,) = re.findall(r"```json\n(.*?)\n```", DOCS.read_text())
    (folder / DEFAULTS_FILE).write_text(line)
    return folder


def test_the_example_samples_and_decodes_as_its_pipeline(module: Path, weights: Path) -> None:
    assert known_model(str(weights)) == str(weights)
    generator = load_generator(str(weights))
    assert type(generator).__module__ == "skyreels"
    pipeline: Any = generator.pipeline

    def by_pipeline(output: str) -> Any:
        # Embeddings are handed in: the pipeline's own cleaning of prompts asks for ftfy.
        return pipeline(
            prompt_embeds=generator.encode_prompts(PROMPTS)["prompt_embeds"],
            negative_prompt_embeds=generator.encode_prompts(["", ""])["prompt_embeds"],
            **{"num_frames": 9, "height": 16, "width": 16, "num_inference_steps": STEPS, "guidance_scale": 5.0},
            latents=initial_noise((2, *generator.latent_shape(SIZE)), SEEDS, "cpu"),
            output_type=output,
        ).frames

    latents = by_reelign(generator, SIZE, 5.0)
    assert_close(latents, by_pipeline("latent"))
    with torch.no_grad():
        videos = generator.decode(latents)
        torch.testing.assert_close(videos, by_pipeline("pt"), rtol=0, atol=2e-5)
        assert generator.encode(videos).shape == latents.shape


def test_the_example_trains(module: Path, weights: Path) -> None:
    policy = Policy(load_generator(str(weights)), LoRA(rank=2))
    latents = torch.randn(2, *policy.generator.latent_shape(SIZE))
    draw = Draw(torch.tensor([0.2, 0.8]), torch.randn(latents.shape))
    conditioning = policy.generator.encode_prompts(PROMPTS)
    velocity_errors(policy, latents, conditioning, draw)["policy"].mean().backward()
    ups = [parameter for name, parameter in policy.parameters.items() if "lora_B" in name]
    assert len(ups) == 16  # two blocks of two attentions of four layers
    assert all(each.grad is not None and each.grad.any() for each in ups)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("skyreels:SkyReel", "has no 'SkyReel'"),
        ("nowhere.at_all:Family", "cannot be imported"),
        ("skyreels", "names 'skyreels' as the model's generator"),
        (7, "names 7 as the model's generator"),
        ("json:JSONDecoder", "is no family"),
        ("reelign.generators:Generator", "lacks denoisers, encode, encode_prompts"),
    ],
)
def test_what_is_no_family_is_refused(module: Path, weights: Path, tmp_path: Path, named: object, said: str) -> None:
    copy = Path(shutil.copytree(weights, tmp_path / "copy", ignore=shutil.ignore_patterns("*.safetensors")))
    (copy / DEFAULTS_FILE).write_text(json.dumps({"generator": named}))
    with pytest.raises(ReelignError, match=said):
        load_generator(str(copy))
    with pytest.raises(ReelignError):
        known_model(str(copy))


def test_a_damaged_file_beside_the_weights_is_named(weights: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(weights, tmp_path / "copy", ignore=shutil.ignore_patterns("*.safetensors")))
    (copy / DEFAULTS_FILE).write_text("{")
    with pytest.raises(ReelignError, match=r"reelign\.json is damaged"):
        load_generator(str(copy))


def test_a_folder_without_the_name_is_not_supported_and_says_how(weights: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(weights, tmp_path / "copy", ignore=shutil.ignore_patterns("*.safetensors")))
    (copy / DEFAULTS_FILE).unlink()
    with pytest.raises(ReelignError, match="SkyReelsV2Pipeline, which reelign does not support") as caught:
        load_generator(str(copy))
    assert "docs/family-of-your-own.md" in caught.value.mend


def test_another_family_of_reeligns_for_the_same_weights(family_folders: dict[str, Path], tmp_path: Path) -> None:
    """LTX-Video's hub folder says text-to-video."""
    copy = Path(shutil.copytree(family_folders["ltx"], tmp_path / "copy"))
    (copy / DEFAULTS_FILE).write_text(json.dumps({"generator": "reelign.generators.ltx:LTXImageToVideo", "fps": 24}))
    generator: Generator = load_generator(str(copy), weights=False)
    assert isinstance(generator, LTXImageToVideo)
    assert generator.takes_images
    assert type(generator.pipeline).__name__ == "LTXImageToVideoPipeline"
    assert generator.defaults.fps == 24
