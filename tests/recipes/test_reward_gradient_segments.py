"""Reward gradients of long videos on real tiny image-to-video models: the exact gradient, runs, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.tiny_svd import save_svd
from generators.tiny_wan_i2v import save_wan_i2v
from recipes.pixel_rewards import Light
from recipes.test_reward_gradient import assert_same
from reelign.diffusion.seeds import seed_from
from reelign.diffusion.steps import DDIM
from reelign.diffusion.truncation import LastSteps, run, through
from reelign.generators import Conditioning, Generator, Guidance, VideoSize, load_generator
from reelign.recipes.generation import Sampling
from reelign.recipes.reward_gradient_scoring import PixelLoss, weights_of
from reelign.recipes.reward_gradient_settings import RewardChoice, RewardGradientSettings
from reelign.recipes.reward_gradient_step import RewardGradientStep, route_for
from reelign.recipes.reward_gradient_stream import RolloutBatch
from reelign.rewards import Reward
from reelign.training import LoRA, Policy, TrainerSettings
from reelign.training.asked import against
from reelign.training.graded_rollout import GradedRollout
from reelign.training.staged_decode import DecodeSettings
from reelign.video.long_clips import LongClip

SEGMENTS, SEEDS, PROMPTS = 3, [11, 12], ["a red square", "a blue disc"]
SETTINGS = RewardGradientSettings(
    reward=RewardChoice(name="recipes.pixel_rewards:Light"),
    decode=DecodeSettings(clamp="straight_through", mode="chunk"),
    gradient=LastSteps(steps=2),
    through="all",
    sampler=DDIM(eta=1.0),
    lora=LoRA(rank=2),
    batch_size=2,
    micro_batch_size=2,
    trackers=(),
    trainer=TrainerSettings(steps=2, learning_rate=0.02, checkpoint_every=1),
)


class Square(Light):
    """Mean of squared brightness: every frame's derivative is its own."""

    name = "square"

    def measure(self, videos: Tensor) -> Tensor:
        return videos.square().flatten(1).mean(dim=1)


@dataclass
class World:
    """A model with an adapter that does something, and what its videos begin with."""

    policy: Policy
    sampling: Sampling
    own: Conditioning
    negative: Conditioning

    @property
    def model(self) -> Generator:
        return self.policy.generator

    @property
    def clip(self) -> LongClip:
        return LongClip(self.sampling.segments, self.sampling.size.num_frames)


SAVES: dict[str, Callable[[Path], None]] = {"svd": save_svd, "wan-i2v": save_wan_i2v}


@pytest.fixture(scope="module", params=["wan-i2v", "svd"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder: Path = tmp_path_factory.mktemp("models") / request.param
    SAVES[request.param](folder)
    return world_of(folder)


def world_of(folder: Path) -> World:
    model = load_generator(str(folder))
    size = VideoSize(3, 16, 16) if folder.name == "svd" else VideoSize(5, 16, 16)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    own = model.encode_prompts(PROMPTS).joined(model.encode_condition(images, size))
    policy = Policy(model, LoRA(rank=2))
    chance = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in policy.parameters.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=chance))
    return World(policy, Sampling(size, 8.0, 3, 3.0, "", segments=SEGMENTS), own, model.encode_prompts([""]))


def gradients(world: World, settings: RewardGradientSettings, reward: Reward) -> tuple[dict[str, Tensor], Any]:
    for parameter in world.policy.parameters.values():
        parameter.grad = None
    loss = PixelLoss(reward, settings.objective, weights_of(settings.objective, reward), settings.frames, 8.0)
    step = RewardGradientStep(loss, settings, world.sampling, world.negative)
    metrics = step.accumulate_gradients(world.policy, RolloutBatch(PROMPTS, world.own, SEEDS, 5))
    return {name: each.grad.clone() for name, each in world.policy.parameters.items() if each.grad is not None}, metrics


def in_one_graph(world: World, settings: RewardGradientSettings, frames: list[int]) -> tuple[dict[str, Tensor], float]:
    """The same by autograd alone: all segments, decodes, encoders and the reward in one graph."""
    model, sampling = world.model, world.sampling
    own, negative = world.own, against(world.own, world.negative)
    route = route_for(model, settings, sampling, torch.Generator())
    parts = []
    for segment in range(SEGMENTS):
        seeds = [seed if segment == 0 else seed_from(seed, "segment", segment) for seed in SEEDS]
        rollout = GradedRollout(model, own, Guidance(3.0, negative), settings.sampler, route, seeds)
        noisy = run(rollout.step, rollout.start(model.latent_shape(sampling.size)), rollout.first)
        latents = rollout.finish(through(rollout.step, noisy, rollout.first, route.graded))
        raw = model.unnormalised(latents)
        pixels = model.decoder.chain(raw, model.decoder.pieces(raw.shape[2]))
        video = (pixels.transpose(1, 2) + 1) / 2
        video = video + (video.clamp(0, 1) - video).detach()
        parts.append(video if segment == 0 else video[:, 1:])
        last = video[:, -1] if settings.through == "all" else video[:, -1].detach()
        image = model.continue_from(last, sampling.size)
        own, negative = own.joined(image), negative.joined(image)
        if settings.through == "last" and segment < SEGMENTS - 1:
            parts[-1] = parts[-1].detach()
    loss = -torch.cat(parts, dim=1)[:, frames].square().flatten(1).mean(dim=1).mean()
    names = list(world.policy.parameters)
    found = torch.autograd.grad(loss, [world.policy.parameters[name] for name in names])
    return dict(zip(names, found, strict=True)), float(loss)


@pytest.mark.parametrize("settings", [SETTINGS, replace(SETTINGS, through="last")], ids=lambda each: each.through)
def test_segment_by_segment_is_the_gradient_of_one_graph(world: World, settings: RewardGradientSettings) -> None:
    reward = Square()
    found, metrics = gradients(world, settings, reward)
    wanted, loss = in_one_graph(world, settings, list(range(world.clip.length)))
    assert_same(found, wanted)
    assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
    assert reward.shapes == [(2, world.clip.length, 3, 16, 16)]
    # Two sides of guidance, two videos; a step before those with gradient, two of them, and those that run again.
    again = 2 * (SEGMENTS if settings.through == "all" else 1)
    assert metrics["forwards"] == 4 * (3 * SEGMENTS + again)
