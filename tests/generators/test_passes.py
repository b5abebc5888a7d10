"""How often a guided step asks the denoiser: what plans and metrics say is what a hook on it counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from reelign.generators import Generator, Guidance, VideoSize, load_generator
from reelign.objectives.reward_gradient import RewardGradient
from reelign.recipes.planning.gradient import forwards_per_video
from reelign.recipes.reward_gradient.scoring import PixelLoss
from reelign.recipes.reward_gradient.settings import RewardChoice, RewardGradientSettings
from reelign.recipes.reward_gradient.step import RewardGradientStep
from reelign.recipes.reward_gradient.stream import RolloutBatch
from reelign.recipes.sampling import GenerateSettings, Sampling
from reelign.rewards.opening import open_reward
from reelign.training import LoRA, Policy

SIZE = VideoSize(9, 16, 16)
SIZES = {"ltx": VideoSize(9, 64, 32), "opensora": VideoSize(17, 16, 16)}


class Rows:
    """Videos that went through the denoiser."""

    def __init__(self, generator: Generator) -> None:
        self.count = 0
        for denoiser in generator.denoisers.values():
            denoiser.register_forward_pre_hook(self.add, with_kwargs=True)

    def add(self, module: Any, args: Any, kwargs: Any) -> None:
        latents = args[0] if args else kwargs["hidden_states"]
        self.count += len(latents)


@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize(("name", "guided"), [("hunyuan", 1), ("hunyuan15", 2), ("ltx", 2), ("opensora", 2)])
def test_a_guided_step_asks_as_often_as_the_family_says(
    name: str, guided: int, scale: float, family_folders: dict[str, Path]
) -> None:
    generator = load_generator(str(family_folders[name]))
    texts, negative = generator.encode_prompts(["a disc", "a ring"]), generator.encode_prompts(["", ""])
    noisy = torch.randn(2, *generator.latent_shape(SIZES.get(name, SIZE)))
    rows = Rows(generator)
    with torch.no_grad():
        generator.guided_velocity(noisy, torch.tensor([0.5, 0.5]), texts, Guidance(scale, negative))
    assert rows.count == 2 * generator.passes(scale)
    assert generator.passes(scale) == (1 if scale == 1 else guided)


def test_a_distilled_model_without_its_embedding_is_guided_by_two_passes(family_folders: dict[str, Path]) -> None:
    generator = load_generator(str(family_folders["hunyuan"]), weights=False)
    generator.denoisers["transformer"].register_to_config(guidance_embeds=False)
    assert generator.passes(6.0) == 2


def test_a_reward_gradients_forwards_are_those_that_run(family_folders: dict[str, Path]) -> None:
    generator = load_generator(str(family_folders["hunyuan"]))
    settings = RewardGradientSettings(
        batch_size=1, micro_batch_size=1, lora=LoRA(rank=2), reward=RewardChoice(name="sharpness")
    )
    given = GenerateSettings(num_frames=9, height=16, width=16, num_inference_steps=3, guidance_scale=6.0)
    how = Sampling.resolve(given, generator)
    reward = open_reward("sharpness")
    loss = PixelLoss(reward, RewardGradient(), dict.fromkeys(reward.dimensions, 1.0), settings.frames, how.fps)
    step = RewardGradientStep(loss, settings, how, generator.encode_prompts([""]))
    batch = RolloutBatch(["a disc"], generator.encode_prompts(["a disc"]), [1], seed=0)
    policy = Policy(generator, settings.lora)
    rows = Rows(generator)
    step.accumulate_gradients(policy, batch)
    assert rows.count == step.forwards == sum(forwards_per_video(generator, settings, how))
    assert rows.count == 4, "three sampler steps, the last of them once more with a graph"
