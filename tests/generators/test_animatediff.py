"""AnimateDiff's own ways: text for every frame, as many frames as its motion module has places, its own table."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from generators.pipelines import PROMPTS, assert_close, by_pipeline, by_reelign
from generators.tiny_animatediff import PLACES
from reelign.errors import ReelignError
from reelign.generators import Generator, VideoSize, load_generator
from reelign.training import LoRA, Policy
from reelign.training.errors import make_draw, velocity_errors


@pytest.fixture
def animatediff(loaded: dict[str, Generator]) -> Generator:
    return loaded["animatediff"]


def test_as_many_frames_as_the_motion_module_knows(animatediff: Generator) -> None:
    size = VideoSize(PLACES, 24, 16)
    animatediff.check(size)
    assert_close(by_reelign(animatediff, size, 5.0), by_pipeline(animatediff.pipeline, animatediff, size, 5.0))
    assert animatediff.legal(VideoSize(PLACES + 9, 21, 3)) == VideoSize(PLACES, 24, 8)
    with pytest.raises(ReelignError, match=f"{PLACES + 1} frames") as caught:
        animatediff.check(VideoSize(PLACES + 1, 16, 16))
    assert f"{PLACES} frames" in caught.value.mend


def test_the_table_is_linear_in_beta(animatediff: Generator) -> None:
    """Ho et al. 2020's own, 1e-4 to 0.02: with steps leading and offset by 1, four of them start at timestep 751."""
    bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), dim=0)
    for level, alpha_bar in zip(animatediff.sigmas(4), bar[[751, 501, 251, 1]], strict=False):
        expected = (1 - alpha_bar).sqrt() / ((1 - alpha_bar).sqrt() + alpha_bar.sqrt())
        assert abs(float(level) - float(expected)) < 1e-5


def test_the_adapter_is_on_motion_and_image_layers_and_gradients_reach_all_of_it(
    family_folders: dict[str, Path],
) -> None:
    generator = load_generator(str(family_folders["animatediff"]))
    policy = Policy(generator, LoRA(rank=2))
    for name, parameter in policy.parameters.items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    latents = torch.randn(2, *generator.latent_shape(VideoSize(4, 16, 16)))
    draw = make_draw(
        latents.shape,
        path=generator.path,
        distribution="uniform",
        shift=1.0,
        generator=torch.Generator().manual_seed(0),
        device=torch.device("cpu"),
    )
    velocity_errors(policy, latents, generator.encode_prompts(PROMPTS), draw)["policy"].mean().backward()
    assert any("motion_modules" in name for name in policy.parameters)
    assert any("attentions" in name for name in policy.parameters)
    idle = [name for name, each in policy.parameters.items() if each.grad is None or not each.grad.any()]
    assert idle == []
