"""Wan I2V's own ways: text of 512 tokens, an image encoder that stays away, adapters with the image's layers."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch

from generators.families import PROMPTS, images_of
from reelign.diffusion.samplers import initial_noise
from reelign.errors import ReelignError
from reelign.generators import Conditioning, Generator, VideoSize, load_generator
from reelign.generators.encoders import IMAGE_ENCODER, encoders, holding, is_away
from reelign.training import LoRA, Policy, load_adapter

SIZE = VideoSize(9, 16, 16)


@pytest.fixture
def folder(family_folders: dict[str, Path]) -> Path:
    return family_folders["wan-i2v"]


@pytest.fixture
def model(loaded: dict[str, Generator]) -> Generator:
    return loaded["wan-i2v"]


@pytest.fixture
def images(folder: Path) -> torch.Tensor:
    found = images_of(folder)
    assert found is not None
    return found


@pytest.fixture
def condition(model: Generator, images: torch.Tensor) -> Conditioning:
    return model.encode_condition(images, SIZE)


def test_prompts_are_encoded_as_the_text_model_does(model: Generator) -> None:
    text = model.pipeline
    ids = text.tokenizer(PROMPTS, padding="max_length", max_length=512, return_tensors="pt")
    with torch.no_grad():
        hidden = text.text_encoder(ids.input_ids, ids.attention_mask).last_hidden_state
    expected = hidden * ids.attention_mask[..., None]
    torch.testing.assert_close(model.encode_prompts(PROMPTS)["prompt_embeds"], expected)


def test_the_image_encoder_stays_in_fp32_and_away_until_it_is_needed(folder: Path, images: torch.Tensor) -> None:
    lean = load_generator(str(folder), dtype=torch.bfloat16, encoders=False)
    assert is_away(encoders(lean)[IMAGE_ENCODER])
    with holding(lean, IMAGE_ENCODER, "vae"):
        assert lean.encode_condition(images, SIZE)["image_embeds"].dtype == torch.float32
    assert is_away(encoders(lean)[IMAGE_ENCODER])


def test_a_model_of_first_and_last_frames_is_refused(folder: Path, tmp_path: Path) -> None:
    for each in folder.iterdir():
        (tmp_path / each.name).symlink_to(each)
    (tmp_path / "transformer").unlink()
    (tmp_path / "transformer").mkdir()
    config = json.loads((folder / "transformer" / "config.json").read_text())
    (tmp_path / "transformer" / "config.json").write_text(json.dumps({**config, "pos_embed_seq_len": 10}))
    with pytest.raises(ReelignError, match="goes from a first frame to a last one"):
        load_generator(str(tmp_path), encoders=False, weights=False)


def test_a_size_the_model_would_change_is_refused_with_the_nearest(model: Generator) -> None:
    with pytest.raises(ReelignError, match="nearest size it can make is 9 frames of 16 x 32"):
        model.check(VideoSize(10, 20, 30))


@pytest.mark.parametrize("further", [(), ("add_k_proj", "add_v_proj")])
def test_an_adapter_loads_as_it_was_saved_and_without_a_warning(
    folder: Path, condition: Conditioning, further: tuple[str, ...], tmp_path: Path
) -> None:
    """With the layers through which the image's features are read, and without them."""
    own, again = (load_generator(str(folder), encoders=False) for _ in range(2))
    policy = Policy(own, LoRA(rank=2, targets=(*own.lora_targets, *further)))
    policy.load_state_dict({name: each + 0.1 for name, each in policy.state_dict().items()})
    policy.save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        load_adapter(again, tmp_path)
    layers = [name for name, _ in again.pipeline.transformer.named_modules() if name.endswith("lora_A")]
    assert any("add_k_proj" in name for name in layers) is bool(further)
    noisy, sigma = initial_noise((2, *own.latent_shape(SIZE)), [3, 4], "cpu"), torch.tensor([0.3, 0.7])
    text = Conditioning({"prompt_embeds": torch.zeros(2, 512, 32)}).joined(condition)
    with torch.no_grad():
        torch.testing.assert_close(again.velocity(noisy, sigma, text), own.velocity(noisy, sigma, text))
