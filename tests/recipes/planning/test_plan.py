"""A plan without weights or values is what the same steps hold with both, and names what would lower it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from recipes.live import learn_total, live_bytes, shapes
from reelign.generators import Generator, load_generator
from reelign.generators.base import Conditioning
from reelign.generators.encoders import VAE, encoders
from reelign.objectives import DPO, KTO, SFT
from reelign.objectives.reward_gradient import RewardGradient
from reelign.recipes.online.settings import OnlineSettings, RolloutSettings
from reelign.recipes.planning.plan import plan
from reelign.recipes.reward_gradient.scoring import PixelLoss
from reelign.recipes.reward_gradient.settings import RewardChoice, RewardGradientSettings
from reelign.recipes.reward_gradient.step import RewardGradientStep
from reelign.recipes.reward_gradient.stream import RolloutBatch
from reelign.recipes.sampling import GenerateSettings, Sampling
from reelign.recipes.settings import AlignSettings
from reelign.recipes.steps.objective import objective_step
from reelign.rewards.opening import open_reward
from reelign.training import LoRA, PairBatch, TrainerSettings, VideoBatch
from reelign.training.staged_decode import DecodeSettings

SIZE = GenerateSettings(num_frames=9, height=64, width=64, num_inference_steps=3)
SMALL = GenerateSettings(num_frames=9, height=32, width=32, num_inference_steps=3)
LEARN = {"batch_size": 4, "micro_batch_size": 2, "lora": LoRA(rank=4)}
GRADIENT: dict[str, Any] = {
    "batch_size": 2,
    "micro_batch_size": 1,
    "reward": RewardChoice(name="sharpness"),
    "decode": DecodeSettings(mode="reverse", offload=False),
    "lora": LoRA(rank=4),
}


@pytest.mark.parametrize(("checkpointing", "two_pass"), [("none", False), ("full", True)])
def test_a_step_on_pairs_is_foreseen(tiny_wan_folder: Path, checkpointing: Any, two_pass: bool) -> None:
    trainer = TrainerSettings(activation_checkpointing=checkpointing)
    settings = AlignSettings(objective=DPO(), trainer=trainer, two_pass=two_pass, **LEARN)
    found = plan(shapes(tiny_wan_folder), settings, SIZE)
    generator = load_generator(str(tiny_wan_folder))
    how = Sampling.resolve(SIZE, generator)
    batch = PairBatch(torch.randn(4, 2, *generator.latent_shape(how.size)), prompts(generator, 4), seed=0)
    step = objective_step(settings, 1)
    measured = live_bytes(generator, settings, lambda policy: step.accumulate_gradients(policy, batch), batch=batch)
    assert learn_total(found) == pytest.approx(measured, rel=0.05)
    assert found.forwards == {"without a graph": 16 if two_pass else 8, "with a graph": 8}


@pytest.mark.parametrize(("objective", "forwards"), [(SFT(), (0, 4)), (KTO(), (8, 4))])
def test_a_step_on_single_videos_is_foreseen(tiny_wan_folder: Path, objective: Any, forwards: Any) -> None:
    settings = AlignSettings(objective=objective, **{**LEARN, "micro_batch_size": 1})
    found = plan(shapes(tiny_wan_folder), settings, SIZE)
    generator = load_generator(str(tiny_wan_folder))
    shape = generator.latent_shape(found.size)
    values = torch.tensor([1.0, 0.0, 1.0, 0.0])
    batch = VideoBatch(torch.randn(4, *shape), prompts(generator, 4), seed=0, values=values)
    step = objective_step(settings, 1)
    measured = live_bytes(generator, settings, lambda policy: step.accumulate_gradients(policy, batch), batch=batch)
    assert learn_total(found) == pytest.approx(measured, rel=0.05)
    assert tuple(found.forwards.values()) == forwards


def test_an_online_step_is_foreseen(tiny_wan_folder: Path) -> None:
    settings = OnlineSettings(
        judge="reward:sharpness",
        prompts=2,
        micro_batch_size=1,
        lora=LoRA(rank=4),
        rollout=RolloutSettings(candidates=2),
    )
    found = plan(shapes(tiny_wan_folder), settings, SIZE)
    generator = load_generator(str(tiny_wan_folder))
    batch = PairBatch(torch.randn(2, 2, *generator.latent_shape(found.size)), prompts(generator, 2), seed=0)
    step = objective_step(settings, 1)
    vae = encoders(generator)[VAE]
    measured = live_bytes(generator, settings, lambda policy: step.accumulate_gradients(policy, batch), vae)
    assert learn_total(found) == pytest.approx(measured, rel=0.05)
    sides = 2 if generator.defaults.guidance_scale > 1 else 1
    assert found.forwards["rollouts"] == 2 * 2 * 3 * sides
    assert [stage.name for stage in found.stages][:5] == ["encode prompts", "roll out", "decode", "judge", "learn"]


@pytest.mark.parametrize("mode", ["reverse", "whole"])
def test_a_step_of_a_rewards_gradient_is_foreseen(tiny_wan_folder: Path, mode: Any) -> None:
    settings = RewardGradientSettings(**{**GRADIENT, "decode": DecodeSettings(mode=mode, offload=False)})
    found = plan(shapes(tiny_wan_folder), settings, SMALL)
    generator = load_generator(str(tiny_wan_folder))
    how = Sampling.resolve(SMALL, generator)
    reward = open_reward("sharpness")
    weights = dict.fromkeys(reward.dimensions, 1.0)
    loss = PixelLoss(reward, RewardGradient(), weights, settings.frames, how.fps, reached=True)
    step = RewardGradientStep(loss, settings, how, prompts(generator, 1))
    batch = RolloutBatch(["a", "b"], prompts(generator, 2), [1, 2], seed=0)
    vae = encoders(generator)[VAE]
    measured = live_bytes(generator, settings, lambda policy: step.accumulate_gradients(policy, batch), vae)
    assert learn_total(found) == pytest.approx(measured, rel=0.05)
    assert sum(found.forwards[name] for name in ("without a graph", "with a graph")) == step.forwards / 2


def prompts(generator: Generator, count: int) -> Conditioning:
    return generator.encode_prompts(["a red ring moves left"] * count)
