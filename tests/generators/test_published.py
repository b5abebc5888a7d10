"""Published models by their sizes alone: as many parameters as they are known to have, in the precision of loading."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch

from reelign.generators import GENERATORS, VideoSize
from reelign.generators.base import Generator
from reelign.generators.encoders import VAE, encoders, text_encoders
from reelign.generators.published import LengthTokenizer, published_configs, shapes_of, usual_size
from reelign.training.memory import ShapeMemory, as_on_a_device

BILLIONS = {
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": 14.29,
    "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers": 16.40,
    "Wan-AI/Wan2.2-T2V-A14B-Diffusers": 2 * 14.29,
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers": 5.00,
    "THUDM/CogVideoX-2b": 1.69,
    "THUDM/CogVideoX-5b": 5.57,
    "damo-vilab/text-to-video-ms-1.7b": 1.41,
    "Lightricks/LTX-Video": 1.92,
    "Lightricks/LTX-Video-0.9.7-dev": 13.04,
    "genmo/mochi-1-preview": 10.03,
    "VideoCrafter/VideoCrafter2": 1.413,
    "stabilityai/stable-video-diffusion-img2vid": 1.525,
    "hunyuanvideo-community/HunyuanVideo": 12.82,
    "hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_t2v": 8.33,
}
"""Parameters of the denoisers, by the models' cards and files."""


def parameters(generator: Generator) -> int:
    return sum(each.numel() for denoiser in generator.denoisers.values() for each in denoiser.parameters())


def test_wans_weights_are_those_of_its_published_architecture() -> None:
    generator = shapes_of("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", vae_dtype=torch.bfloat16)
    width, inner, blocks, text = 1536, 8960, 30, 4096
    attention = 4 * (width * width + width) + 2 * width
    block = 2 * attention + (2 * width * inner + inner + width) + 2 * width + 6 * width
    patches = 16 * 4 * width + width
    time = (256 * width + width) + (width * width + width) + 6 * (width * width + width)
    texts = (text * width + width) + (width * width + width)
    head = 64 * width + 64 + 2 * width
    assert parameters(generator) == blocks * block + patches + time + texts + head
    precisions = {name: each.dtype for name, each in generator.pipeline.transformer.named_parameters()}
    assert precisions["blocks.0.attn1.to_q.weight"] == torch.bfloat16
    assert precisions["blocks.0.scale_shift_table"] == torch.float32
    assert {each.dtype for each in encoders(generator)[VAE].parameters()} == {torch.bfloat16}
    # UMT5-XXL: 24 layers of width 4096, 64 heads of 64, 10,240 inside, 256,384 words.
    (reader,) = text_encoders(generator).values()
    layer = 4 * 4096 * 4096 + 3 * 4096 * 10240 + 2 * 4096 + 32 * 64
    assert sum(each.numel() for each in reader.parameters()) == 24 * layer + 256384 * 4096 + 4096
    assert generator.latent_shape(VideoSize(81, 480, 832)) == (16, 21, 60, 104)


@pytest.mark.slow
@pytest.mark.parametrize("model", BILLIONS)
def test_the_others_have_as_many_as_their_cards_say(model: str) -> None:
    assert parameters(shapes_of(model)) / 1e9 == pytest.approx(BILLIONS[model], rel=0.01)


def test_every_published_pipeline_has_a_family() -> None:
    assert {config["_class_name"] for config in published_configs().values()} <= set(GENERATORS)


def test_a_length_stands_for_a_text() -> None:
    tokenizer = LengthTokenizer(226)
    padded = tokenizer(["a", "b"], padding="max_length", max_length=32, truncation=True, return_tensors="pt")
    assert padded.input_ids.shape == padded["attention_mask"].shape == (2, 32)
    assert tokenizer("a", padding="max_length").input_ids.shape == (1, 226)
    assert tokenizer.tokenize("a red kite") == ["a", "red", "kite"]
    assert tokenizer("a", padding="longest").input_ids.shape[1] < 226


def test_every_component_is_a_class_with_its_settings() -> None:
    for model, config in published_configs().items():
        assert config["_from"], model
        for name, entry in config.items():
            assert not (isinstance(entry, str) and "/" in entry and not name.startswith("_")), (model, name)
            if isinstance(entry, list) and not name.startswith("_"):
                library, kind, settings = entry
                assert isinstance(settings, dict)
                assert library == "tokenizer" or hasattr(import_module(library), kind), (model, name)


def test_a_component_that_is_another_models_is_said_once() -> None:
    configs = published_configs()
    assert configs["Wan-AI/Wan2.2-T2V-A14B-Diffusers"]["vae"] == configs["Wan-AI/Wan2.1-T2V-1.3B-Diffusers"]["vae"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("Lightricks/LTX-Video", 128),
        ("Lightricks/LTX-Video-0.9.7-dev", 256),
        ("hunyuanvideo-community/HunyuanVideo", 256),
        ("hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_t2v", 1000),
    ],
)
def test_text_has_the_length_that_the_model_pads_it_to(model: str, tokens: int) -> None:
    generator = shapes_of(model)
    with ShapeMemory(), as_on_a_device():
        found = generator.encode_prompts(["a red ring moves left"])
    assert found["prompt_embeds"].shape[:2] == (1, tokens)


@pytest.mark.slow
def test_a_checkpoint_may_have_a_usual_size_of_its_own() -> None:
    assert usual_size(shapes_of("stabilityai/stable-video-diffusion-img2vid")) == VideoSize(14, 576, 1024)
    assert usual_size(shapes_of("stabilityai/stable-video-diffusion-img2vid-xt")) == VideoSize(25, 576, 1024)
