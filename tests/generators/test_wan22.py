"""Wan 2.2 through reelign equals Wan 2.2 through its own pipelines: two experts, timesteps by token."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.pipelines import PROMPTS, SEEDS, STEPS, assert_close, by_reelign
from reelign.diffusion.samplers import initial_noise
from reelign.errors import ReelignError
from reelign.generators import Generator, Guidance, VideoSize, load_generator
from reelign.generators.given_frames import FIRST
from reelign.generators.wan22 import Wan22, Wan22ImageToVideo, Wan22TI2V

SIZE = VideoSize(9, 16, 16)
LARGER = VideoSize(5, 32, 64)


@pytest.fixture
def folder(family_folders: dict[str, Path]) -> Path:
    return family_folders["wan22"]


@pytest.fixture
def experts(loaded: dict[str, Generator]) -> Generator:
    return loaded["wan22"]


@pytest.fixture
def ti2v(loaded: dict[str, Generator]) -> Generator:
    return loaded["wan22-ti2v"]


@pytest.fixture
def i2v(loaded: dict[str, Generator]) -> Generator:
    return loaded["wan22-i2v"]


def by_pipeline(pipeline: Any, generator: Generator, size: VideoSize, scale: float, **more: Any) -> Tensor:
    noise = initial_noise((len(SEEDS), *generator.latent_shape(size)), SEEDS, "cpu")
    # As embeddings: the image-to-video pipeline cleans texts with ftfy, without which it does not run.
    found: Tensor = pipeline(
        prompt_embeds=generator.encode_prompts(PROMPTS)["prompt_embeds"],
        negative_prompt_embeds=generator.encode_prompts(["", ""])["prompt_embeds"],
        num_frames=size.num_frames,
        height=size.height,
        width=size.width,
        num_inference_steps=STEPS,
        guidance_scale=scale,
        latents=noise,
        output_type="latent",
        **generator.call_arguments,
        **more,
    ).frames
    return found


def test_the_class_follows_from_the_config(experts: Generator, ti2v: Generator, i2v: Generator) -> None:
    assert (type(experts), type(ti2v), type(i2v)) == (Wan22, Wan22TI2V, Wan22ImageToVideo)
    assert {i2v.expert(float(sigma)) for sigma in i2v.sigmas(STEPS)[:-1]} == {"transformer", "transformer_2"}
    assert list(experts.denoisers) == ["transformer", "transformer_2"]
    assert list(ti2v.denoisers) == ["transformer"]


@pytest.mark.parametrize(("scale", "second"), [(5.0, 2.0), (1.0, 3.0)])
def test_sampling_goes_through_both_experts_as_the_pipeline_does(
    experts: Generator, scale: float, second: float | None
) -> None:
    asked = {experts.expert(float(sigma)) for sigma in experts.sigmas(STEPS)[:-1]}
    assert asked == {"transformer", "transformer_2"}
    guidance = Guidance(scale, experts.encode_prompts(["", ""]), second)
    ours = experts.sample(experts.encode_prompts(PROMPTS), SEEDS, SIZE, steps=STEPS, guidance=guidance)
    assert_close(ours, by_pipeline(experts.pipeline, experts, SIZE, scale, guidance_scale_2=second))


def test_the_models_own_pair_of_scales_holds_where_the_first_is_its_own(experts: Generator) -> None:
    """A14B's 4 and 3; beside another scale the second is the same, as in the pipeline."""
    assert (experts.second_scale(4.0), experts.second_scale(5.0)) == (3.0, 5.0)
    assert_close(
        by_reelign(experts, SIZE, 4.0), by_pipeline(experts.pipeline, experts, SIZE, 4.0, guidance_scale_2=3.0)
    )


@pytest.mark.parametrize(("sigma", "name"), [(1.0, "transformer"), (0.875, "transformer"), (0.8749, "transformer_2")])
def test_the_boundary_belongs_to_the_expert_for_high_noise(experts: Generator, sigma: float, name: str) -> None:
    assert experts.expert(sigma) == name


def test_a_boundary_that_rounds_is_the_pipelines(folder: Path, tmp_path: Path) -> None:
    """0.9 in fp32 is a little less, and 1000 times it is 900 again."""
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    edit(copy / "model_index.json", boundary_ratio=0.9)
    generator = load_generator(str(copy))
    sigma = torch.tensor(0.9)
    assert float(sigma) < 0.9
    assert generator.expert(float(sigma)) == "transformer"
    assert bool(sigma * 1000 >= generator.pipeline.config.boundary_ratio * 1000)


def test_rows_of_a_mixed_batch_go_to_their_own_expert(experts: Generator) -> None:
    noisy = torch.randn(4, *experts.latent_shape(SIZE), generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.2, 0.9, 0.5, 1.0])
    conditioning = experts.encode_prompts(PROMPTS * 2)
    calls: list[tuple[str, int]] = []
    hooks = [
        each.register_forward_pre_hook(counted(name, calls), with_kwargs=True)
        for name, each in experts.denoisers.items()
    ]
    with torch.no_grad():
        together = experts.velocity(noisy, sigma, conditioning)
    for hook in hooks:
        hook.remove()
    assert sorted(calls) == [("transformer", 2), ("transformer_2", 2)]
    for row, name in enumerate(("transformer_2", "transformer", "transformer_2", "transformer")):
        one = torch.tensor([row])
        with torch.no_grad():
            alone = experts.denoisers[name](
                noisy[one], sigma[one] * 1000, conditioning.take(one)["prompt_embeds"], return_dict=False
            )[0]
        torch.testing.assert_close(together[one], alone, rtol=0, atol=1e-5)


def counted(name: str, calls: list[tuple[str, int]]) -> Any:
    return lambda _, args, kwargs: calls.append((name, len(kwargs["hidden_states"])))


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_text_to_video_of_ti2v_equals_the_pipelines(ti2v: Generator, scale: float) -> None:
    """Where nothing is given all tokens share one timestep."""
    expected = by_pipeline(ti2v.pipeline, ti2v, LARGER, scale)
    assert_close(by_reelign(ti2v, LARGER, scale), expected)


def test_a_given_frame_bears_no_noise_and_no_error(ti2v: Generator) -> None:
    latents = torch.randn(2, *ti2v.latent_shape(LARGER), generator=torch.Generator().manual_seed(0))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    sigma = torch.tensor([0.3, 0.8])
    conditioning = ti2v.encode_prompts(PROMPTS)
    assert ti2v.clean_mask(latents.shape, conditioning) is None
    given = conditioning.joined(type(conditioning)({FIRST: latents[:, :, :1]}))
    mask = ti2v.clean_mask(latents.shape, given)
    assert mask is not None
    assert mask.shape == (2, 1, *latents.shape[2:])
    assert mask[:, :, 0].all()
    assert not mask[:, :, 1:].any()
    level = sigma.reshape(-1, 1, 1, 1, 1)
    noisy = (1 - level) * latents + level * noise
    with torch.no_grad():
        said = ti2v.velocity(noisy, sigma, given)
        torch.testing.assert_close(said[:, :, 0], (noise - latents)[:, :, 0], rtol=0, atol=1e-5)
        # Whatever noise lies on the given frame, the others are told the same.
        noisy[:, :, 0] += 1
        torch.testing.assert_close(ti2v.velocity(noisy, sigma, given)[:, :, 1:], said[:, :, 1:], rtol=0, atol=0)


def test_ti2vs_sizes_are_in_steps_of_32(ti2v: Generator) -> None:
    assert ti2v.legal(VideoSize(120, 700, 1290)) == VideoSize(121, 704, 1280)


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("lacking", "value", "there"),
    [("boundary_ratio", None, "transformer_2"), ("transformer_2", [None, None], "boundary_ratio")],
)
def test_half_of_two_experts_is_refused(folder: Path, tmp_path: Path, lacking: str, value: Any, there: str) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    edit(copy / "model_index.json", **{lacking: value})
    with pytest.raises(ReelignError, match=f"has a {there} but no {lacking}"):
        load_generator(str(copy))
