"""Reward guidance in each family's plain pipeline, through its callback: our own guided sampling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from generators.families import FAMILIES
from generators.pipelines import PROMPTS, SEEDS, STEPS, by_pipeline, by_reelign
from reelign.diffusion.guidance import RewardGuidance
from reelign.errors import ReelignError
from reelign.generators import Conditioning, Generator, Guidance, VideoSize
from reelign.training.latent_callback import pipeline_guide
from reelign.training.latent_guide import LatentGuide
from reelign.training.latent_reward import LatentReward, LatentRewardShape, new_latent_reward
from reelign.training.latent_reward_files import save_latent_reward

SHAPE = LatentRewardShape(dimensions=("VQ",), blocks=1, train="full", lora=None, levels="noisy", queries=1, heads=1)
WITHOUT = ("TextToVideoSDPipeline", "VideoCrafter2Pipeline", "HunyuanVideo15Pipeline", "OpenSoraPipeline")
"""Pipelines that have no callback_on_step_end."""
SCALE = 5.0


FROM_TEXT = (
    *("wan", "cogvideox-2b", "cogvideox-5b", "cogvideox-1.5", "wan22-ti2v", "modelscope", "animatediff"),
    *("videocrafter2", "hunyuan", "hunyuan15", "ltx", "mochi", "opensora"),
)
"""Families of one denoiser that make clips of text alone."""


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.slow if FAMILIES[name].slow else ()) for name in FROM_TEXT]
)
def family_folder(request: pytest.FixtureRequest, family_folders: dict[str, Path]) -> Path:
    return family_folders[request.param]


def drawn_reward(generator: Generator, conditioning: Conditioning, size: VideoSize) -> LatentReward:
    """A reward that has learnt nothing, and says something all the same."""
    found = new_latent_reward(generator, SHAPE, conditioning, generator.latent_shape(size), seed=0)
    with torch.no_grad():
        found.head.read.copy_(torch.randn(found.head.read.shape, generator=torch.Generator().manual_seed(0)))
    return found


def test_the_callback_makes_our_guided_latents(family: Generator, family_size: VideoSize, tmp_path: Path) -> None:
    pipeline: Any = family.pipeline
    reward = drawn_reward(family, family.encode_prompts(PROMPTS), family_size)
    save_latent_reward(reward, tmp_path)
    # The latents that a pipeline starts from are not handed over.
    first = float(family.sigmas(STEPS, family.latent_shape(family_size))[1])
    settings = RewardGuidance(sigma_range=(0.0, first), max_share=0.5)
    weights: dict[str, Any] = {"VQ": torch.tensor([2000.0, -2000.0])}
    if type(pipeline).__name__ in WITHOUT:
        with pytest.raises(ReelignError, match=f"A {type(pipeline).__name__} has no callback_on_step_end"):
            pipeline_guide(pipeline, tmp_path, weights, prompts=PROMPTS, size=family_size, settings=settings)
        return
    guide = pipeline_guide(pipeline, tmp_path, weights, prompts=PROMPTS, size=family_size, settings=settings)
    callback = {"callback_on_step_end": guide, "callback_on_step_end_tensor_inputs": guide.inputs}
    theirs = by_pipeline(pipeline, family, family_size, SCALE, further=callback)
    guidance = Guidance(SCALE, family.encode_prompts([""] * len(PROMPTS)))
    ours = family.sample(
        family.encode_prompts(PROMPTS),
        SEEDS,
        family_size,
        steps=STEPS,
        guidance=guidance,
        steer=LatentGuide(reward, weights, settings),
    )
    largest = float(ours.abs().max())
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-4 * max(1.0, largest))
    assert guide.guide.log.gradients == len(PROMPTS) * (STEPS - 1)
    assert float((ours - by_reelign(family, family_size, SCALE)).abs().max()) > 1e-2 * largest
