"""AnimateDiff's own ways: text for every frame, as many frames as its motion module has places, its own table."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from generators.pipelines import assert_close, by_pipeline, by_reelign
from generators.tiny_animatediff import PLACES
from reelign.errors import ReelignError
from reelign.generators import Generator, VideoSize, load_generator
from reelign.training import LoRA, Policy


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


def test_the_adapter_is_on_motion_and_image_layers(family_folders: dict[str, Path]) -> None:
    """That gradients reach all of it is every family's test."""
    policy = Policy(load_generator(str(family_folders["animatediff"]), encoders=False), LoRA(rank=2))
    assert any("motion_modules" in name for name in policy.parameters)
    assert any("attentions" in name for name in policy.parameters)
