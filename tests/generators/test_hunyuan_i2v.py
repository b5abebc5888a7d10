"""HunyuanVideo 1.0 from an image: equal to its pipeline in both kinds, read with the image, learnt from, cached.

What every family promises is asked of `token_replace` in the table of families; of `latent_concat` it is asked here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from diffusers import HunyuanVideoImageToVideoPipeline
from PIL import Image
from torch import Tensor

from generators.pipelines import SEEDS, assert_close
from generators.test_alignment import draw_for
from generators.tiny_hunyuan_i2v import Kind, save_hunyuan_i2v
from reelign.diffusion.samplers import initial_noise
from reelign.errors import ReelignError
from reelign.generators import Conditioning, Generator, Guidance, VideoSize, load_generator
from reelign.generators.encoders import encoders, is_away
from reelign.generators.hunyuan_i2v import FIRST, HIDDEN
from reelign.generators.pictures import as_pictures
from reelign.objectives import DPO
from reelign.recipes.offline.samples import check
from reelign.recipes.settings import AlignSettings
from reelign.records import image_prompt
from reelign.training import LoRA, Policy, load_adapter, velocity_errors
from reelign.training.caches import cached_sides, uncached_prompts
from reelign.training.staged_decode import DecodeSettings, decoded_gradient

SIZE = VideoSize(9, 16, 16)
STEPS = 3
PROMPTS = ["a red square moves left", "a blue disc moves right " * 4]
"""The second is cut, and with it the header of the answer behind it."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    for kind in get_args(Kind):
        save_hunyuan_i2v(place / kind, kind=kind)
    return {kind: place / kind for kind in get_args(Kind)}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Generator]:
    return {kind: load_generator(str(folder)) for kind, folder in folders.items()}


@pytest.fixture(scope="module", params=get_args(Kind))
def model(request: pytest.FixtureRequest, models: dict[str, Generator]) -> Generator:
    return models[request.param]


@pytest.fixture(scope="module")
def images() -> Tensor:
    """A dark one and a bright one, of another shape than the clips'."""
    noise = torch.rand(2, 3, 20, 28, generator=torch.Generator().manual_seed(0))
    return noise * torch.tensor([0.2, 1.0]).view(-1, 1, 1, 1)


@pytest.fixture(scope="module")
def sides(model: Generator, images: Tensor) -> tuple[Conditioning, Conditioning]:
    given = model.encode_condition(images, SIZE)
    return model.encode_together(PROMPTS, images).joined(given), model.encode_prompts([""] * 2).joined(given)


def is_beside(model: Generator) -> bool:
    return model.pipeline.transformer.config.image_condition_type == "latent_concat"


def by_reelign(model: Generator, sides: tuple[Conditioning, Conditioning], scale: float) -> Tensor:
    return model.sample(sides[0], SEEDS, SIZE, steps=STEPS, guidance=Guidance(scale, sides[1]))


def by_pipeline(pipeline: Any, model: Generator, images: Tensor, scale: float) -> Tensor:
    """Latents, one call a video: how the pipeline finds a cut prompt's end fits a single one."""
    noise = initial_noise((2, *model.latent_shape(SIZE)), SEEDS, "cpu")
    call = model.pipeline_call({"num_frames": SIZE.num_frames, "guidance_scale": scale})["arguments"]
    return torch.cat(
        [
            pipeline(
                image=picture,
                prompt=PROMPTS[row],
                negative_prompt="",
                height=SIZE.height,
                width=SIZE.width,
                num_inference_steps=STEPS,
                latents=noise[row : row + 1],
                output_type="latent",
                **call,
            ).frames
            for row, picture in enumerate(as_pictures(images))
        ]
    )


def test_sampling_equals_the_pipelines_latents(
    model: Generator, sides: tuple[Conditioning, Conditioning], images: Tensor
) -> None:
    """By an embedded scale, or by a second pass whose text is read with a black image."""
    ours = by_reelign(model, sides, 5.0)
    # Of the images beside its latents the pipeline gives back no first latent frame.
    assert_close(ours[:, :, int(is_beside(model)) :], by_pipeline(model.pipeline, model, images, 5.0))


def test_the_image_reaches_the_video_through_text_and_latents(
    model: Generator, sides: tuple[Conditioning, Conditioning], images: Tensor
) -> None:
    own, sigma = sides[0], torch.tensor([0.3, 0.8])
    noisy = initial_noise((2, *model.latent_shape(SIZE)), SEEDS, "cpu")
    read = model.encode_together(PROMPTS[:1] * 2, images)["prompt_embeds"]
    assert (read[0] - read[1]).abs().max() > 1e-2
    with torch.no_grad():
        said = model.velocity(noisy, sigma, own)
        for name in ("prompt_embeds", FIRST):
            other = own.joined(Conditioning({name: own[name].flip(0)}))
            assert (model.velocity(noisy, sigma, other) - said)[:, :, 1:].abs().max() > 1e-4


def test_what_is_shown_is_the_pipelines_video(
    model: Generator, sides: tuple[Conditioning, Conditioning], images: Tensor
) -> None:
    """Of all decoded frames the first four are not shown where the image stands beside the latents."""
    latents = torch.randn(1, *model.latent_shape(SIZE), generator=torch.Generator().manual_seed(1))
    vae: Any = model.pipeline.vae
    with torch.no_grad():
        every = (vae.decode(latents / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1).transpose(1, 2)
        expected = every[:, HIDDEN if is_beside(model) else 0 :]
        assert model.decode(latents).shape == (1, SIZE.num_frames, 3, SIZE.height, SIZE.width)
        torch.testing.assert_close(model.decode(latents), expected)
        found = model.decode(latents, frames=[6, 1])
        torch.testing.assert_close(found, expected[:, [6, 1]], rtol=0, atol=1e-5)
        back = model.encode(expected)
    still = expected[:, :1].expand(-1, HIDDEN if is_beside(model) else 0, -1, -1, -1)
    pixels = torch.cat([still, expected], dim=1).transpose(1, 2) * 2 - 1
    torch.testing.assert_close(back, vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor)


def test_the_gradient_of_a_decode_in_pieces_is_the_whole_ones(model: Generator) -> None:
    """Of 29 frames, in three tiles."""
    size = VideoSize(29, 16, 16)
    latents = torch.randn(1, *model.latent_shape(size), generator=torch.Generator().manual_seed(1))
    towards = torch.randn(1, 29, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    found = [
        decoded_gradient(model, latents, lambda video: (video * towards).sum(), DecodeSettings(mode=mode))[1]
        for mode in ("whole", "reverse")
    ]
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-4 * float(found[0].abs().max()))


def test_a_given_frame_bears_no_error_and_ends_every_sample(models: dict[str, Generator], images: Tensor) -> None:
    model = models["token_replace"]
    given = model.encode_condition(images, SIZE)
    own = model.encode_together(PROMPTS, images).joined(given)
    noise = initial_noise((2, *model.latent_shape(SIZE)), SEEDS, "cpu")
    mask = model.clean_mask(noise.shape, own)
    assert mask is not None
    assert mask[:, 0, :, 0, 0].tolist() == [[True, False, False]] * 2
    # Whatever is fed there, the model sees what is given, and its velocity leads to it.
    fed, sigma = torch.where(mask, noise + 5, noise), torch.tensor([0.2, 0.9])
    with torch.no_grad():
        said, moved = (model.velocity(each, sigma, own) for each in (noise, fed))
    assert torch.equal(moved[:, :, 1:], said[:, :, 1:])
    reached = fed[:, :, :1] - sigma.view(-1, 1, 1, 1, 1) * moved[:, :, :1]
    torch.testing.assert_close(reached, given[FIRST], rtol=0, atol=1e-5)
    ended = model.sample(own, SEEDS, SIZE, steps=STEPS, guidance=Guidance(3.0))
    torch.testing.assert_close(ended[:, :, :1], given[FIRST], rtol=0, atol=1e-5)


@pytest.mark.parametrize("model", ["latent_concat"], indirect=True)
def test_pairs_are_learnt_from_and_the_adapter_loads_into_plain_diffusers(
    model: Generator, sides: tuple[Conditioning, Conditioning], images: Tensor, tmp_path: Path
) -> None:
    """DPO's loss falls, every target has its gradient, run again or kept."""
    folder = model.model
    model = load_generator(folder)
    base = by_reelign(model, sides, 5.0)
    policy = Policy(model, LoRA(rank=4, alpha=4))
    latents = torch.randn(2, *model.latent_shape(SIZE), generator=torch.Generator().manual_seed(1))
    latents += torch.tensor([1.0, -1.0]).view(-1, 1, 1, 1, 1)
    own = sides[0].take(torch.tensor([0, 0]))
    draw = draw_for(policy, latents[:1]).repeat(2)
    optimiser = torch.optim.Adam(policy.parameters.values(), lr=2e-2)
    losses = []
    for step in range(3):
        if step == 2:
            before = gradients(policy, latents, own, draw)
            model.enable_activation_checkpointing()
            for again, kept in zip(gradients(policy, latents, own, draw), before, strict=True):
                torch.testing.assert_close(again, kept)
        optimiser.zero_grad()
        loss = dpo(policy, latents, own, draw)
        loss.backward()
        losses.append(float(loss.detach()))
        assert all(parameter.grad is not None for parameter in policy.parameters.values())
        optimiser.step()
    assert losses[-1] < 0.9 * losses[0]
    assert all(parameter.grad.any() for parameter in policy.parameters.values() if parameter.grad is not None)
    policy.save(tmp_path)

    plain: Any = HunyuanVideoImageToVideoPipeline.from_pretrained(folder)
    plain.set_progress_bar_config(disable=True)
    plain.load_lora_weights(tmp_path)
    ours = by_reelign(model, sides, 5.0)
    assert (ours - base).abs().max() > 1e-2
    assert_close(ours[:, :, int(is_beside(model)) :], by_pipeline(plain, model, images, 5.0))
    again = load_generator(folder)
    load_adapter(again, tmp_path)
    assert_close(by_reelign(again, sides, 5.0), ours)


def dpo(policy: Policy, latents: Tensor, own: Conditioning, draw: Any) -> Tensor:
    errors = velocity_errors(policy, latents, own, draw)
    return DPO(beta=20.0)(errors["policy"].unflatten(0, (-1, 2)), errors["reference"].unflatten(0, (-1, 2))).mean()


def gradients(policy: Policy, latents: Tensor, own: Conditioning, draw: Any) -> tuple[Tensor, ...]:
    return torch.autograd.grad(dpo(policy, latents, own, draw), list(policy.parameters.values()))


@pytest.mark.parametrize("model", ["latent_concat"], indirect=True)
def test_a_batch_of_mixed_sigmas_equals_single_calls(
    model: Generator, sides: tuple[Conditioning, Conditioning]
) -> None:
    noisy, sigma = initial_noise((2, *model.latent_shape(SIZE)), SEEDS, "cpu"), torch.tensor([0.1, 0.9])
    with torch.no_grad():
        together = model.velocity(noisy, sigma, sides[0])
        for row in range(2):
            one = torch.tensor([row])
            alone = model.velocity(noisy[one], sigma[one], sides[0].take(one))
            torch.testing.assert_close(together[one], alone, rtol=1e-5, atol=1e-5)


def test_a_text_is_cached_with_its_image(models: dict[str, Generator], images: Tensor, tmp_path: Path) -> None:
    """The same text of two images is read twice; the other side of guidance is of another length."""
    lean = load_generator(models["token_replace"].model, encoders=False)
    prompts = []
    for number, picture in enumerate(as_pictures(images)):
        picture.save(tmp_path / f"{number}.png")
        prompts.append(image_prompt("a red square", tmp_path / f"{number}.png"))
    assert uncached_prompts([*prompts, ""], lean, tmp_path / "cache") == 3
    found = cached_sides(prompts, "", lean, tmp_path / "cache", SIZE)
    assert all(is_away(each) for each in encoders(lean).values())
    assert not torch.equal(found.own["prompt_embeds"][0], found.own["prompt_embeds"][1])
    read = models["token_replace"].encode_together(["a red square"] * 2, images)
    assert torch.equal(found.own["prompt_embeds"], read["prompt_embeds"])
    _, against = found.take(torch.tensor([1, 0]))
    assert torch.equal(against[FIRST], found.own[FIRST].flip(0))
    assert against["prompt_embeds"].shape[1] == read["prompt_embeds"].shape[1] + 576 // 4
    assert uncached_prompts([*prompts, ""], lean, tmp_path / "cache") == 0


def test_each_kind_has_defaults_and_refusals_of_its_own(models: dict[str, Generator]) -> None:
    replace, beside = (models[kind] for kind in get_args(Kind))
    assert (replace.defaults.num_frames, replace.defaults.guidance_scale) == (129, 6.0)
    assert not replace.takes_negative_prompts
    assert (beside.defaults.num_frames, beside.defaults.guidance_scale) == (125, 1.0)
    assert beside.takes_negative_prompts
    assert beside.pipeline_call({"num_frames": 125, "guidance_scale": 1.0})["arguments"]["num_frames"] == 129
    assert replace.needs_images
    assert replace.reads_images
    with pytest.raises(ReelignError, match="nearest size it can make is 9 frames of 16 x 32"):
        beside.check(VideoSize(10, 20, 30))
    settings = AlignSettings(objective=DPO(), empty_prompt_share=0.1)
    with pytest.raises(ReelignError, match="guided in one pass"):
        check(settings, replace, NoPairs())  # type: ignore[arg-type]


class NoPairs:
    """As many preferences as a check of the settings needs."""

    prompts = ()

    def check_pairs(self) -> None: ...


def test_black_is_black_at_any_size(model: Generator) -> None:
    """The pipeline reads the other side with a black image of the clip's size."""
    own = model._read([""], [Image.new("RGB", (60, 30))], 2)  # type: ignore[attr-defined]
    assert torch.equal(own["prompt_embeds"], model.encode_prompts([""])["prompt_embeds"])
