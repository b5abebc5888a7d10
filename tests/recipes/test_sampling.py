"""`guidance_scale_2`: the scale of Wan 2.2's expert for low noise, asked for where videos are made."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from generators.pipelines import PROMPTS, SEEDS, STEPS, assert_close
from generators.tiny_wan22 import save_wan22
from reelign.diffusion.samplers import initial_noise
from reelign.errors import ReelignError
from reelign.generators import Generator, VideoSize, load_generator
from reelign.recipes.candidates import Candidates
from reelign.recipes.online.settings import RolloutSettings
from reelign.recipes.reward_gradient.settings import RolloutSize
from reelign.recipes.sampling import GenerateSettings, Sampling
from reelign.training import LoRA, Policy
from reelign.training.asked import Sides
from reelign.training.rollouts import Group, Sampler

SIZE = VideoSize(9, 16, 16)
SETTINGS = GenerateSettings(
    num_frames=9, height=16, width=16, num_inference_steps=STEPS, guidance_scale=5.0, guidance_scale_2=2.0
)


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    folder = tmp_path_factory.mktemp("models") / "wan22"
    save_wan22(folder)
    return load_generator(str(folder))


def test_candidates_and_rollouts_are_the_pipelines_with_that_argument(experts: Generator) -> None:
    how = Sampling.resolve(SETTINGS, experts)
    pipeline: Any = experts.pipeline
    arguments = {name: value for name, value in how.as_dict().items() if name != "fps"}
    call = experts.pipeline_call({**arguments, "negative_prompt": [""] * 2})["arguments"]
    assert (call["guidance_scale"], call["guidance_scale_2"]) == (5.0, 2.0)
    noise = initial_noise((2, *experts.latent_shape(SIZE)), SEEDS, "cpu")
    theirs = pipeline(prompt=PROMPTS, latents=noise, output_type="latent", **call).frames
    made = Candidates(experts, how, PROMPTS).sample(PROMPTS, SEEDS)
    assert_close(made, theirs)
    assert (made - Candidates(experts, replace(how, guidance_scale_2=None), PROMPTS).sample(PROMPTS, SEEDS)).any()

    sides = Sides(experts.encode_prompts(PROMPTS), experts.encode_prompts([""]))
    sampler = Sampler(how.size, how.steps, how.guidance_scale, sides, 2, how.guidance_scale_2)
    groups = [Group(prompt, row, [SEEDS[row]]) for row, prompt in enumerate(PROMPTS)]
    (rolled,) = sampler.roll_out(Policy(experts, LoRA(rank=2)), groups, weights="base")
    torch.testing.assert_close(rolled.latents[:, 0], made, rtol=0, atol=1e-5)


def test_the_models_own_pair_is_recorded_as_it_was(experts: Generator) -> None:
    """Videos that were made before the scale could be named are still those that are asked for."""
    own = replace(SETTINGS, guidance_scale=None, guidance_scale_2=3.0)
    assert Sampling.resolve(own, experts) == Sampling.resolve(replace(own, guidance_scale_2=None), experts)
    assert "guidance_scale_2" not in Sampling.resolve(own, experts).as_dict()


def test_rollouts_have_it_from_generate_or_their_own() -> None:
    for rollout in (RolloutSettings(), RolloutSize()):
        assert rollout.over(SETTINGS).guidance_scale_2 == 2.0
        assert replace(rollout, guidance_scale_2=1.5).over(SETTINGS).guidance_scale_2 == 1.5


def test_a_scale_that_would_be_passed_over_is_refused(experts: Generator, tiny_wan: Generator) -> None:
    with pytest.raises(ReelignError, match="has one denoiser"):
        Sampling.resolve(SETTINGS, tiny_wan)
    with pytest.raises(ReelignError, match="switches guidance off"):
        Sampling.resolve(replace(SETTINGS, guidance_scale=1.0), experts)
    for settings in (GenerateSettings, RolloutSettings):
        with pytest.raises(ValueError, match="guidance_scale_2 must be a finite number"):
            settings(guidance_scale_2=math.inf)
