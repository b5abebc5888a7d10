"""What a whole online step costs beside its parts, measured apart in the same run.

    python benchmarks/online_step.py                   # the whole step beside its parts
    python benchmarks/online_step.py --elsewhere 0.5   # a judge that another device runs, in turn, with overlap, ahead

The parts are the rollout (sampling the candidates), the reward (decoding and scoring them) and one graded pair step
(errors of policy and reference on the pairs, and the backward pass). After each step of a real run on the small world a
monitor takes each of them alone, on the same policy, and the median over steps of the ratio is printed. Seconds are of
this process on one core, which other processes do not change. At most 1.10 is wanted: selecting, gathering, batching,
the optimiser and the log cost no more than a tenth.

With `--elsewhere` the judge takes so many seconds for each video in which this process has nothing to do, as where
another device or machine scores; decoding stays here. Printed are seconds of the clock for a step whose judging is
waited for, overlaps with the rollout (`overlap`), or overlaps with the training of the step before (`ahead`).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from reelign.generators import load_generator, resolve_model
from reelign.objectives import DPO
from reelign.recipes.online.counts import Clock
from reelign.recipes.online.feedback import RewardFeedback, Shown
from reelign.recipes.online.rollouts import Rollouts
from reelign.recipes.online.settings import BaseDistance, OnlineSettings, RolloutSettings
from reelign.recipes.online.step import OnlineStep
from reelign.recipes.online.stream import OnlineStream
from reelign.recipes.sampling import GenerateSettings, Sampling
from reelign.recipes.steps.objective import objective_step
from reelign.rewards import Reward, RewardCard, Videos
from reelign.rewards.judging import RewardUse
from reelign.spriteworld.prompts import train_captions
from reelign.spriteworld.reward import SpriteReward
from reelign.training import LoRA, PairBatch, Policy, Trainer, TrainerSettings
from reelign.training.asked import Sides
from reelign.training.rollouts import Group, Sampler

WARM = 1
"""First steps that are not counted."""


def main(steps: int, prompts: int, candidates: int, sampler_steps: int) -> float:
    torch.set_num_threads(1)
    apart = Apart()
    train(settings_of(steps, prompts, candidates, sampler_steps), SpriteReward(), prompts * candidates, apart)
    for name in apart.rows[0]:
        print(f"{name:18s} {statistics.median(row[name] for row in apart.rows[WARM:]):.3f} s")
    ratio = statistics.median(row["whole step"] / (sum(row.values()) - row["whole step"]) for row in apart.rows[WARM:])
    print(f"ratio of the whole step to its parts, measured apart: {ratio:.3f} (at most 1.10 is wanted)")
    return ratio


def settings_of(steps: int, prompts: int, candidates: int, sampler_steps: int, **changes: Any) -> OnlineSettings:
    """Of a run that measures nothing but its steps."""
    return OnlineSettings(
        objective=DPO(beta=100.0),
        prompts=prompts,
        rollout=RolloutSettings(candidates=candidates, num_inference_steps=sampler_steps),
        distance=BaseDistance(every=10**6),
        trainer=TrainerSettings(steps=steps + WARM, checkpoint_every=10**6),
        **changes,
    )


def train(settings: OnlineSettings, reward: Reward, batch_size: int, monitor: Apart | Pace) -> None:
    """A real run on the small world; `batch_size` candidates are sampled together."""
    generator = load_generator(resolve_model("spriteworld"))
    how = Sampling.resolve(settings.rollout.over(GenerateSettings()), generator)
    texts = train_captions()[: 4 * settings.prompts]
    sides = Sides(generator.encode_prompts(texts), generator.encode_prompts([""]))
    policy = Policy(generator, LoRA(), moving=True)
    sampler = Sampler(how.size, how.steps, how.guidance_scale, sides, batch_size)
    feedback = RewardFeedback(reward, RewardUse(batch_size=64))
    elements = torch.Size(generator.latent_shape(how.size)).numel()
    with tempfile.TemporaryDirectory() as folder:
        stream = OnlineStream(Rollouts(policy, sampler, feedback, settings, texts, fps=how.fps), Path(folder))
        graded = objective_step(settings, elements)
        monitor.begin(stream, graded)
        step = OnlineStep(graded, settings)
        Trainer(policy, stream, step, settings.trainer, Path(folder), title="online", monitors=[monitor]).train()


class Elsewhere(Reward):
    """The brightness of a video, told after a wait that costs this process nothing."""

    card = RewardCard(what="Brightness", dimensions=("brightness",), differentiable=False, frames_needed=1)
    name, version, dimensions = "elsewhere", "1", ("brightness",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, torch.Tensor]:
        time.sleep(self.seconds * len(prompts))
        return {"brightness": torch.stack([video.mean() for video in videos])}


def elsewhere(seconds: float, steps: int, prompts: int, candidates: int, sampler_steps: int) -> None:
    """A step by the clock in each of the three ways, as medians over steps."""
    torch.set_num_threads(1)
    paces: dict[str, Pace] = {}
    ways: dict[str, dict[str, bool]] = {"in turn": {}, "overlap": {"overlap": True}, "ahead": {"ahead": True}}
    for name, changes in ways.items():
        paces[name] = Pace()
        # Each prompt's candidates are sampled by themselves, so that there is something to overlap with.
        settings = settings_of(steps, prompts, candidates, sampler_steps, **changes)
        train(settings, Elsewhere(seconds), candidates, paces[name])
    plain = statistics.median(paces["in turn"].steady)
    for name, pace in paces.items():
        taken = statistics.median(pace.steady)
        print(f"{name:8s} {taken:.2f} s a step, {taken / plain:.2f} of in turn")


class Onlooker:
    """A monitor that has no say and nothing to keep."""

    def verdict(self) -> str | None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class Pace(Onlooker):
    """A monitor of the clock's seconds from step to step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    @property
    def steady(self) -> list[float]:
        """Without the first steps, and without the last, which samples nothing ahead."""
        found = [after - before for before, after in pairwise(self.ends)]
        return found[WARM - 1 : -1]

    def begin(self, stream: OnlineStream, graded: Any) -> None:
        pass

    def after_step(self, step: int, policy: Policy, metrics: dict[str, float]) -> dict[str, float]:
        self.ends.append(time.perf_counter())
        return {}


class Apart(Onlooker):
    """A monitor that takes the parts of a step alone, after the whole; it leaves weights and randomness as they are."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def begin(self, stream: OnlineStream, graded: Any) -> None:
        self.stream, self.settings, self.graded = stream, stream.settings, graded
        self.ended = time.process_time()
        """When the last step's parts had been taken."""

    def after_step(self, step: int, policy: Policy, metrics: dict[str, float]) -> dict[str, float]:
        stream, sampler = self.stream, self.stream.rollouts.sampler
        row = {"whole step": time.process_time() - self.ended}
        groups = [
            Group(text, place, [1000 * step + 10 * place + index for index in range(self.settings.rollout.candidates)])
            for place, text in enumerate(stream.rollouts.prompts[: self.settings.prompts])
        ]
        began = time.process_time()
        rollouts = list(sampler.roll_out(policy, groups))
        row["rollout"] = time.process_time() - began
        began = time.process_time()
        with torch.no_grad():
            for rollout in rollouts:
                clock = Clock(policy.generator.device)
                stream.feedback.scores(Shown(rollout, policy.generator, sampler, stream.rollouts.fps, 0, clock))
        row["reward"] = time.process_time() - began
        assert stream.current is not None
        batch = stream.current.batch(sampler.sides.own, step)
        assert isinstance(batch, PairBatch)
        began = time.process_time()
        self.graded.accumulate_gradients(policy, batch)
        row["graded pair step"] = time.process_time() - began
        for parameter in policy.parameters.values():
            parameter.grad = None
        self.rows.append(row)
        self.ended = time.process_time()
        return {}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--candidates", type=int, default=6)
    parser.add_argument("--sampler-steps", type=int, default=10)
    parser.add_argument("--elsewhere", type=float, help="seconds that a judge on another device takes for a video")
    given = parser.parse_args()
    shape = (given.steps, given.prompts, given.candidates, given.sampler_steps)
    main(*shape) if given.elsewhere is None else elsewhere(given.elsewhere, *shape)
