"""Wan I2V through reelign equals Wan I2V through its own pipeline, image by image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanImageToVideoPipeline
from PIL import Image

from generators.pipelines import PROMPTS, SEEDS, STEPS, assert_close
from generators.tiny_wan_i2v import save_wan_i2v
from reelign.diffusion.samplers import initial_noise
from reelign.errors import ReelignError
from reelign.generators import Conditioning, Generator, Guidance, VideoSize, load_generator
from reelign.generators.encoders import IMAGE_ENCODER, encoders, holding, is_away
from reelign.training import LoRA, Policy, load_adapter, make_draw, velocity_errors

SIZE = VideoSize(9, 16, 16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models") / "wan-i2v"
    save_wan_i2v(place)
    return place


@pytest.fixture(scope="module")
def model(folder: Path) -> Generator:
    return load_generator(str(folder))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    """Two, of a size and a shape that is not the clips'."""
    chance = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 20, 28, 3), generator=chance, dtype=torch.uint8)
    return [Image.fromarray(each.numpy()) for each in pixels]


@pytest.fixture(scope="module")
def images(pictures: list[Image.Image]) -> torch.Tensor:
    pixels = [torch.frombuffer(bytearray(each.tobytes()), dtype=torch.uint8).view(20, 28, 3) for each in pictures]
    return torch.stack(pixels).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def condition(model: Generator, images: torch.Tensor) -> Conditioning:
    return model.encode_condition(images, SIZE)


def by_reelign(model: Generator, condition: Conditioning, scale: float) -> torch.Tensor:
    own, negative = (model.encode_prompts(texts).joined(condition) for texts in (PROMPTS, [""] * len(PROMPTS)))
    return model.sample(own, SEEDS, SIZE, steps=STEPS, guidance=Guidance(scale, negative))


def by_pipeline(pipeline: Any, model: Generator, pictures: list[Image.Image], scale: float, output: str) -> Any:
    """One call a video: the pipeline's own takes one image a call."""
    noise = initial_noise((len(SEEDS), *model.latent_shape(SIZE)), SEEDS, "cpu")
    found = []
    for row, picture in enumerate(pictures):
        found.append(
            pipeline(
                image=picture,
                prompt_embeds=model.encode_prompts([PROMPTS[row]])["prompt_embeds"],
                negative_prompt_embeds=model.encode_prompts([""])["prompt_embeds"],
                num_frames=SIZE.num_frames,
                height=SIZE.height,
                width=SIZE.width,
                num_inference_steps=STEPS,
                guidance_scale=scale,
                latents=noise[row : row + 1],
                output_type=output,
                **model.call_arguments,
            ).frames
        )
    return torch.cat(found)


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_sampling_a_batch_of_images_equals_the_pipelines_latents_of_each(
    model: Generator, condition: Conditioning, pictures: list[Image.Image], scale: float
) -> None:
    expected = by_pipeline(model.pipeline, model, pictures, scale, "latent")
    assert_close(by_reelign(model, condition, scale), expected)


def test_decoding_equals_the_pipelines_video(
    model: Generator, condition: Conditioning, pictures: list[Image.Image]
) -> None:
    expected = by_pipeline(model.pipeline, model, pictures, 5.0, "pt")
    videos = model.decode(by_reelign(model, condition, 5.0)).detach()
    torch.testing.assert_close(videos, expected, rtol=0, atol=2e-5)


def test_another_image_makes_another_video(model: Generator, condition: Conditioning) -> None:
    swapped = condition.take(torch.tensor([1, 0]))
    assert (by_reelign(model, condition, 1.0) - by_reelign(model, swapped, 1.0)).abs().max() > 1e-2
    # By each of the two ways on which it comes in.
    for name in ("image_latents", "image_embeds"):
        one = Conditioning({**condition.tensors, name: swapped[name]})
        assert (by_reelign(model, condition, 1.0) - by_reelign(model, one, 1.0)).abs().max() > 1e-3


def test_prompts_are_encoded_as_the_text_model_does(model: Generator) -> None:
    text = model.pipeline
    ids = text.tokenizer(PROMPTS, padding="max_length", max_length=512, return_tensors="pt")
    with torch.no_grad():
        hidden = text.text_encoder(ids.input_ids, ids.attention_mask).last_hidden_state
    expected = hidden * ids.attention_mask[..., None]
    torch.testing.assert_close(model.encode_prompts(PROMPTS)["prompt_embeds"], expected)


def test_images_encode_the_same_alone_and_together(
    model: Generator, images: torch.Tensor, condition: Conditioning
) -> None:
    for row in range(2):
        alone = model.encode_condition(images[row : row + 1], SIZE)
        for name, tensor in condition.tensors.items():
            torch.testing.assert_close(tensor[row : row + 1], alone[name], rtol=0, atol=1e-5)


def test_the_image_encoder_stays_in_fp32_and_away_until_it_is_needed(folder: Path, images: torch.Tensor) -> None:
    lean = load_generator(str(folder), dtype=torch.bfloat16, encoders=False)
    assert is_away(encoders(lean)[IMAGE_ENCODER])
    with holding(lean, IMAGE_ENCODER, "vae"):
        assert lean.encode_condition(images, SIZE)["image_embeds"].dtype == torch.float32
    assert is_away(encoders(lean)[IMAGE_ENCODER])


def test_a_trained_adapter_reaches_every_target_and_loads_into_plain_diffusers(
    folder: Path, condition: Conditioning, pictures: list[Image.Image], tmp_path: Path
) -> None:
    """The targets beside the defaults too: those through which the image's features are read."""
    model = load_generator(str(folder))
    policy = Policy(model, LoRA(rank=2, alpha=2, targets=(*model.lora_targets, "add_k_proj", "add_v_proj")))
    latents = torch.randn(2, *model.latent_shape(SIZE), generator=torch.Generator().manual_seed(1)) + 1
    both = model.encode_prompts(PROMPTS).joined(condition)
    draw = make_draw(
        latents.shape,
        path=model.path,
        distribution="uniform",
        shift=1.0,
        generator=torch.Generator().manual_seed(2),
        device=torch.device("cpu"),
    )
    optimiser = torch.optim.Adam(policy.parameters.values(), lr=2e-2)
    losses = []
    for _ in range(4):
        optimiser.zero_grad()
        loss = velocity_errors(policy, latents, both, draw, weights=("policy",))["policy"].mean()
        loss.backward()
        losses.append(float(loss.detach()))
        optimiser.step()
    assert losses[-1] < 0.95 * losses[0]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in policy.parameters.values())
    policy.save(tmp_path)

    plain = WanImageToVideoPipeline.from_pretrained(folder)
    plain.set_progress_bar_config(disable=True)
    base = by_pipeline(plain, model, pictures, 5.0, "latent")
    plain.load_lora_weights(tmp_path)
    ours = by_reelign(model, condition, 5.0)
    assert (ours - base).abs().max() > 1e-2
    assert_close(ours, by_pipeline(plain, model, pictures, 5.0, "latent"))
    again = load_generator(str(folder))
    load_adapter(again, tmp_path)
    assert_close(by_reelign(again, condition, 5.0), ours)


def test_a_model_of_first_and_last_frames_is_refused(folder: Path, tmp_path: Path) -> None:
    for each in folder.iterdir():
        (tmp_path / each.name).symlink_to(each)
    (tmp_path / "transformer").unlink()
    (tmp_path / "transformer").mkdir()
    config = json.loads((folder / "transformer" / "config.json").read_text())
    (tmp_path / "transformer" / "config.json").write_text(json.dumps({**config, "pos_embed_seq_len": 10}))
    with pytest.raises(ReelignError, match="goes from a first frame to a last one"):
        load_generator(str(tmp_path), encoders=False, weights=False)


def test_a_batch_of_mixed_sigmas_and_images_equals_single_calls(model: Generator, condition: Conditioning) -> None:
    noisy, sigma = initial_noise((2, *model.latent_shape(SIZE)), SEEDS, "cpu"), torch.tensor([0.1, 0.9])
    both = model.encode_prompts(PROMPTS).joined(condition)
    with torch.no_grad():
        together = model.velocity(noisy, sigma, both)
        for row in range(2):
            one = torch.tensor([row])
            alone = model.velocity(noisy[one], sigma[one], both.take(one))
            torch.testing.assert_close(together[one], alone, rtol=1e-5, atol=1e-5)
    assert together.dtype == torch.float32


def test_activation_checkpointing_keeps_gradients(folder: Path, condition: Conditioning) -> None:
    def gradients() -> list[torch.Tensor]:
        model = policy.generator
        both = model.encode_prompts(PROMPTS).joined(condition)
        noisy = initial_noise((2, *model.latent_shape(SIZE)), SEEDS, "cpu")
        loss = model.velocity(noisy, torch.tensor([0.3, 0.7]), both).square().mean()
        return list(torch.autograd.grad(loss, list(policy.parameters.values())))

    policy = Policy(load_generator(str(folder)), LoRA(rank=2))
    for name, parameter in policy.parameters.items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    plain = gradients()
    policy.generator.enable_activation_checkpointing()
    for found, wanted in zip(gradients(), plain, strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_size_the_model_would_change_is_refused_with_the_nearest(model: Generator) -> None:
    with pytest.raises(ReelignError, match="nearest size it can make is 9 frames of 16 x 32"):
        model.check(VideoSize(10, 20, 30))
