"""The step of a reward gradient on tensors without values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from reelign.diffusion.seeds import generator_from
from reelign.diffusion.truncation import LastSteps, Renoised
from reelign.generators.base import Conditioning, Generator
from reelign.recipes.planning.model import REWARD, rows
from reelign.recipes.planning.rewards import on_shapes
from reelign.recipes.planning.stages import PROMPT, Measured, lay_gradients, measured
from reelign.recipes.reward_gradient.scoring import PixelLoss, weights_of
from reelign.recipes.reward_gradient.settings import RewardGradientSettings
from reelign.recipes.reward_gradient.step import RewardGradientStep, route_for
from reelign.recipes.reward_gradient.stream import RolloutBatch
from reelign.recipes.sampling import Sampling
from reelign.rewards.base import Reward
from reelign.training import Policy, Ranks
from reelign.training.memory import ShapeMemory


@dataclass
class PlannedLoss(PixelLoss):
    """A loss on pixels without values, which no look at its gradient could judge."""

    memory: ShapeMemory | None = None

    def __call__(self, *inputs: Any, **settings: Any) -> Any:
        assert self.memory is not None
        self.memory.label = REWARD
        with on_shapes(self.reward):
            return PixelLoss.__call__(self, *inputs, **settings)

    def _scored(self, scores: Mapping[str, Tensor]) -> Tensor:
        """Every video has a score."""
        return next(iter(scores.values())).detach() == 0

    def end_batch(self, scores: Mapping[str, Tensor], names: Sequence[str], ranks: Ranks) -> None:
        """Nothing to see."""


def climb(
    policy: Policy,
    held: Sequence[nn.Module | Tensor],
    conditioning: Conditioning,
    sampling: Sampling,
    settings: RewardGradientSettings,
    reward: Reward,
) -> Measured:
    """A micro-batch of a step, as `learn`, with at most one sampler step before those that carry gradient."""
    weights = weights_of(settings.objective, reward)
    shorter, fewer = shortened(policy.generator, settings, sampling)
    count = min(settings.micro_batch_size, settings.batch_size)
    batch = RolloutBatch([PROMPT] * count, rows(conditioning, count), list(range(count)), seed=0)

    def work(memory: ShapeMemory) -> None:
        loss = PlannedLoss(reward, settings.objective, weights, settings.frames, sampling.fps, reached=True)
        loss.memory = memory
        if count < settings.batch_size:
            lay_gradients(policy)
        RewardGradientStep(loss, shorter, fewer, rows(conditioning, 1)).accumulate_gradients(policy, batch)

    return measured(policy.generator, held, work)


def shortened(
    generator: Generator, settings: RewardGradientSettings, sampling: Sampling
) -> tuple[RewardGradientSettings, Sampling]:
    """Settings of a shorter rollout that holds as much: steps without a graph hold nothing after them, and of those
    that are run again one by one (`graph=step`) two hold what many do."""
    most = most_graded(generator, settings, sampling)
    graded = most if settings.graph == "held" else min(most, 2)
    gradient = settings.gradient
    short = Renoised(times=min(2, gradient.times)) if isinstance(gradient, Renoised) else LastSteps(steps=graded)
    steps = min(graded + 1, sampling.steps)
    # From noise, which holds as much as clips do; `real` is then of the anchor alone.
    real = settings.real if settings.data_anchor else ""
    return replace(settings, gradient=short, edit_from=None, real=real), replace(sampling, steps=steps)


def most_graded(generator: Generator, settings: RewardGradientSettings, sampling: Sampling) -> int:
    """How many steps carry gradient at most."""
    if settings.gradient.name == "random":
        return settings.gradient.most or sampling.steps
    return route_for(generator, settings, sampling, generator_from("plan")).graded


def forwards_per_video(generator: Generator, settings: RewardGradientSettings, sampling: Sampling) -> tuple[int, int]:
    """Calls of the denoiser (without a graph, with one) for each video of a step, both sides of guidance counted.

    All segments of a long video are rolled out without a graph, and those that the gradient goes through run again.
    Where chance decides how many there are it is one draw of it.
    """
    route = route_for(generator, settings, sampling, generator_from("plan"))
    sides = generator.passes(sampling.guidance_scale)
    graded = route.graded * max(1, route.renoisings)
    plain = route.prefix + (graded if settings.graph == "step" else 0)
    anchor = 1 if settings.objective.reference else 0
    climbed = sampling.segments if settings.through == "all" else 1
    plain += (sampling.segments - 1) * route.steps
    return sides * plain + anchor * climbed, sides * graded * climbed + anchor * climbed + bool(settings.data_anchor)
