"""Stable Video Diffusion through reelign equals it through its own pipeline; what it learns, and what it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableVideoDiffusionPipeline
from PIL import Image
from torch import Tensor

from generators.test_alignment import Learn, draw_for, into_the_model
from generators.tiny_svd import save_svd
from reelign.diffusion.samplers import initial_noise
from reelign.errors import ReelignError
from reelign.generators import Conditioning, Generator, Guidance, VideoSize, load_generator
from reelign.generators.defaults import DEFAULTS_FILE
from reelign.generators.svd import NOISE_SEED
from reelign.objectives.dpo import DPO
from reelign.training import (
    LoRA,
    PairBatch,
    Policy,
    ShuffledStream,
    Trainer,
    TrainerSettings,
    load_adapter,
    velocity_errors,
)

SIZE = VideoSize(3, 16, 16)
SEEDS = [3, 4]
STEPS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models") / "svd"
    save_svd(place)
    return place


@pytest.fixture(scope="module")
def model(folder: Path) -> Generator:
    return load_generator(str(folder))


@pytest.fixture(scope="module")
def images() -> Tensor:
    """(2, 3, 20, 28) whole 255ths, of a size and a shape that is not the clips'."""
    return torch.randint(0, 256, (2, 3, 20, 28), generator=torch.Generator().manual_seed(0)).float() / 255


@pytest.fixture(scope="module")
def conditioning(model: Generator, images: Tensor) -> Conditioning:
    return model.encode_prompts(["a", "b"]).joined(model.encode_condition(images, SIZE))


def by_reelign(model: Generator, conditioning: Conditioning, scale: float) -> Tensor:
    return model.sample(conditioning, SEEDS, SIZE, steps=STEPS, guidance=Guidance(scale, conditioning))


def by_pipeline(pipeline: Any, model: Generator, images: Tensor, scale: float, output: str = "latent") -> Tensor:
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    noise = initial_noise((len(SEEDS), *model.latent_shape(SIZE)), SEEDS, "cpu")
    pipeline.set_progress_bar_config(disable=True)
    frames: Tensor = pipeline(
        image=[Image.fromarray(each) for each in pixels],
        num_frames=SIZE.num_frames,
        height=SIZE.height,
        width=SIZE.width,
        num_inference_steps=STEPS,
        max_guidance_scale=scale,
        latents=noise.transpose(1, 2),
        generator=[torch.Generator().manual_seed(NOISE_SEED) for _ in SEEDS],
        output_type=output,
        **model.call_arguments,
    ).frames
    return frames.transpose(1, 2) if output == "latent" else frames


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_sampling_equals_the_pipelines_latents_and_video(
    model: Generator, conditioning: Conditioning, images: Tensor, scale: float
) -> None:
    ours = by_reelign(model, conditioning, scale)
    assert_near(ours, by_pipeline(model.pipeline, model, images, scale))
    video = by_pipeline(model.pipeline, model, images, scale, "pt")
    torch.testing.assert_close(model.decode(ours).detach(), video, rtol=0, atol=2e-3)
    chosen = model.decode(ours, frames=[2, 0]).detach()
    torch.testing.assert_close(chosen, model.decode(ours)[:, [2, 0]].detach(), rtol=0, atol=1e-5)


def test_guidance_grows_along_the_clip(model: Generator, conditioning: Conditioning) -> None:
    """The first frame has none; the last has the scale, away from an image of zeros."""
    noisy, sigma = initial_noise((2, *model.latent_shape(SIZE)), SEEDS, "cpu"), torch.tensor([0.5, 0.9])
    zeros = Conditioning({name: torch.zeros_like(each) for name, each in conditioning.tensors.items()})
    with torch.no_grad():
        plain, nothing = model.velocity(noisy, sigma, conditioning), model.velocity(noisy, sigma, zeros)
        guided = model.guided_velocity(noisy, sigma, conditioning, Guidance(3.0, conditioning))
    torch.testing.assert_close(guided[:, :, 0], plain[:, :, 0], rtol=0, atol=1e-5)
    expected = nothing[:, :, 2] + 3 * (plain - nothing)[:, :, 2]
    torch.testing.assert_close(guided[:, :, 2], expected, rtol=1e-4, atol=1e-4)


def test_the_schedule_is_karras_from_700_to_clean(model: Generator) -> None:
    own = (torch.linspace(700 ** (1 / 7), 0.002 ** (1 / 7), STEPS, dtype=torch.float64) ** 7).tolist()
    expected = torch.tensor([*(level / (1 + level) for level in own), 0.0])
    torch.testing.assert_close(model.sigmas(STEPS), expected, rtol=1e-6, atol=1e-6)


def test_the_native_error_is_that_of_edms_network(folder: Path, conditioning: Conditioning) -> None:
    """F is v of the noisy video scaled to unit variance; the default weight makes the velocity's error its own."""
    model = load_generator(str(folder))
    policy = Policy(model, LoRA(rank=2))
    latents = torch.randn(2, *model.latent_shape(SIZE), generator=torch.Generator().manual_seed(2))
    draw = draw_for(policy, latents)
    level = (draw.sigma / (1 - draw.sigma))[:, None, None, None, None]
    fed = (latents + level * draw.noise) / (1 + level**2).sqrt()
    target = (draw.noise - level * latents) / (1 + level**2).sqrt()
    image = conditioning["image_latents"][:, :, None].expand_as(fed)
    with torch.no_grad(), policy.using("reference"):
        said = model.pipeline.unet(
            torch.cat([fed, image], dim=1).transpose(1, 2),
            0.25 * level.flatten().log(),
            conditioning["image_embeds"],
            torch.tensor([[6, 127, 0.02]] * 2),
            return_dict=False,
        )[0].transpose(1, 2)
    expected = (said - target).square().flatten(1).mean(dim=1)
    errors = velocity_errors(policy, latents, conditioning, draw)
    torch.testing.assert_close(errors["reference"], expected, rtol=2e-4, atol=1e-5)


def test_dpo_lowers_its_loss_and_plain_diffusers_takes_the_adapter(
    folder: Path, images: Tensor, conditioning: Conditioning, tmp_path: Path
) -> None:
    own = load_generator(str(folder))
    base = by_reelign(own, conditioning, 3.0)
    policy = Policy(own, LoRA(rank=4, alpha=4))
    pairs = torch.randn(4, 2, *own.latent_shape(SIZE), generator=torch.Generator().manual_seed(1))
    pairs = pairs + torch.tensor([1.0, -1.0])[:, None, None, None, None]
    objective, rows = DPO(beta=20.0), torch.tensor([0, 1, 0, 1])
    stream: Any = ShuffledStream(PairBatch, pairs, conditioning, rows, batch_size=4, seed=0)
    trainer = TrainerSettings(steps=4, learning_rate=3e-2, checkpoint_every=4)
    Trainer(policy, stream, Learn(objective), trainer, tmp_path / "run").train()
    both, draw = conditioning.take(rows.repeat_interleave(2)), draw_for(policy, pairs[:, 0]).repeat(2)
    with torch.no_grad():
        after = velocity_errors(policy, pairs.flatten(0, 1), both, draw)
    loss = objective(after["policy"].unflatten(0, (-1, 2)), after["reference"].unflatten(0, (-1, 2))).mean()
    assert loss < 0.6

    ours = by_reelign(own, conditioning, 3.0)
    assert (ours - base).abs().max() > 1e-2
    file = policy.save(tmp_path / "adapter")
    assert file is not None
    plain: Any = StableVideoDiffusionPipeline.from_pretrained(folder)
    into_the_model(plain.unet, "unet", file, own.lora_targets)
    assert_near(ours, by_pipeline(plain, own, images, 3.0))
    again = load_generator(str(folder))
    load_adapter(again, tmp_path / "adapter")
    assert_near(by_reelign(again, conditioning, 3.0), ours)


def test_gradients_reach_all_of_the_adapter_and_checkpointing_keeps_them(
    folder: Path, conditioning: Conditioning
) -> None:
    """attn2's queries and keys, to one token of the image, would have none: they are no targets."""
    own = load_generator(str(folder))
    policy = Policy(own, LoRA(rank=2))
    chance = torch.Generator().manual_seed(0)
    for name, parameter in policy.parameters.items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=chance)
    latents = torch.randn(2, *own.latent_shape(SIZE), generator=chance)

    def gradients() -> dict[str, Tensor]:
        for parameter in policy.parameters.values():
            parameter.grad = None
        velocity_errors(policy, latents, conditioning, draw_for(policy, latents))["policy"].mean().backward()
        return {name: each.grad.clone() for name, each in policy.parameters.items() if each.grad is not None}

    plain = gradients()
    own.enable_activation_checkpointing()
    again = gradients()
    assert plain.keys() == again.keys() == policy.parameters.keys()
    assert [name for name, each in plain.items() if not each.any()] == []
    for name in plain:
        torch.testing.assert_close(again[name], plain[name], rtol=1e-4, atol=1e-6)


def test_encoding_is_the_pipelines_and_batches_do_not_matter(
    model: Generator, conditioning: Conditioning, images: Tensor
) -> None:
    videos = torch.rand(2, 3, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    vae = model.pipeline.vae
    frames = vae.encode(videos.flatten(0, 1) * 2 - 1).latent_dist.mode() * vae.config.scaling_factor
    expected = frames.unflatten(0, (2, 3)).transpose(1, 2)
    torch.testing.assert_close(model.encode(videos), expected, rtol=0, atol=1e-6)
    alone = model.encode_condition(images[1:], SIZE)
    for name, tensor in alone.tensors.items():
        torch.testing.assert_close(tensor[0], conditioning[name][1], rtol=0, atol=1e-5)
    noisy, sigma = initial_noise((2, *model.latent_shape(SIZE)), SEEDS, "cpu"), torch.tensor([0.3, 0.99])
    one = torch.tensor([1])
    with torch.no_grad():
        together = model.velocity(noisy, sigma, conditioning)[one]
        torch.testing.assert_close(model.velocity(noisy[one], sigma[one], conditioning.take(one)), together)


def test_what_it_is_told_stands_beside_its_weights(folder: Path, conditioning: Conditioning, tmp_path: Path) -> None:
    for part in folder.iterdir():
        (tmp_path / part.name).symlink_to(part)
    (tmp_path / DEFAULTS_FILE).write_text(json.dumps({"told": {"motion_bucket_id": 40, "decode_chunk_size": 2}}))
    told = load_generator(str(tmp_path))
    assert told.call_arguments == {"fps": 7, "motion_bucket_id": 40, "noise_aug_strength": 0.02, "decode_chunk_size": 2}
    latents = torch.randn(1, *told.latent_shape(SIZE))
    pieces = torch.cat([told.decode(latents[:, :, :2]), told.decode(latents[:, :, 2:])], dim=1)
    torch.testing.assert_close(told.decode(latents), pieces)


def test_bad_input_is_refused(model: Generator, folder: Path, tmp_path: Path) -> None:
    noisy = initial_noise((2, *model.latent_shape(SIZE)), SEEDS, "cpu")
    with pytest.raises(ReelignError, match="there is none") as caught:
        model.velocity(noisy, torch.tensor([0.5, 0.5]), model.encode_prompts(["a", "b"]))
    assert "image" in caught.value.mend
    assert model.legal(VideoSize(0, 21, 3)) == VideoSize(1, 24, 8)
    for part in folder.iterdir():
        if part.name != "scheduler":
            (tmp_path / part.name).symlink_to(part)
    (tmp_path / "scheduler").mkdir()
    path = "scheduler/scheduler_config.json"
    (tmp_path / path).write_text(json.dumps({**json.loads((folder / path).read_text()), "timestep_type": "discrete"}))
    with pytest.raises(ReelignError, match="is not EDM's"):
        load_generator(str(tmp_path))
