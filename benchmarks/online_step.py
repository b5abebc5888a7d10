"""What a whole online step costs beside its parts, measured apart in the same run: `python benchmarks/online_step.py`.

The parts are the rollout (sampling the candidates), the reward (decoding and scoring them) and one graded pair step
(errors of policy and reference on the pairs, and the backward pass). After each step of a real run on the small world a
monitor takes each of them alone, on the same policy, and the median over steps of the ratio is printed. Seconds are of
this process on one core, which other processes do not change. At most 1.10 is wanted: selecting, gathering, batching,
the optimiser and the log cost no more than a tenth.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from reelign.generators import load_generator, resolve_model
from reelign.objectives import DPO
from reelign.recipes.generation import GenerateSettings, Sampling
from reelign.recipes.objective_step import objective_step
from reelign.recipes.online_counts import Clock
from reelign.recipes.online_feedback import RewardFeedback, Shown
from reelign.recipes.online_settings import BaseDistance, OnlineSettings, RolloutSettings
from reelign.recipes.online_step import OnlineStep
from reelign.recipes.online_stream import OnlineStream
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
    settings = OnlineSettings(
        objective=DPO(beta=100.0),
        prompts=prompts,
        rollout=RolloutSettings(candidates=candidates, num_inference_steps=sampler_steps),
        distance=BaseDistance(every=10**6),
        trainer=TrainerSettings(steps=steps + WARM, checkpoint_every=10**6),
    )
    generator = load_generator(resolve_model("spriteworld"))
    how = Sampling.resolve(settings.rollout.over(GenerateSettings()), generator)
    texts = train_captions()[: 4 * prompts]
    sides = Sides(generator.encode_prompts(texts), generator.encode_prompts([""]))
    policy = Policy(generator, LoRA(), moving=True)
    sampler = Sampler(how.size, how.steps, how.guidance_scale, sides, prompts * candidates)
    feedback = RewardFeedback(SpriteReward(), RewardUse(batch_size=64))
    elements = torch.Size(generator.latent_shape(how.size)).numel()
    with tempfile.TemporaryDirectory() as folder:
        stream = OnlineStream(policy, sampler, feedback, settings, texts, Path(folder), fps=how.fps)
        step = OnlineStep(objective_step(settings, elements), settings)
        apart = Apart(stream, settings, elements)
        Trainer(policy, stream, step, settings.trainer, Path(folder), title="online", monitors=[apart]).train()
    for name in apart.rows[0]:
        print(f"{name:18s} {statistics.median(row[name] for row in apart.rows[WARM:]):.3f} s")
    ratio = statistics.median(row["whole step"] / (sum(row.values()) - row["whole step"]) for row in apart.rows[WARM:])
    print(f"ratio of the whole step to its parts, measured apart: {ratio:.3f} (at most 1.10 is wanted)")
    return ratio


class Apart:
    """A monitor that takes the parts of a step alone, after the whole; it leaves weights and randomness as they are."""

    def __init__(self, stream: OnlineStream, settings: OnlineSettings, elements: int) -> None:
        self.stream = stream
        self.settings = settings
        self.graded = objective_step(settings, elements)
        self.rows: list[dict[str, float]] = []
        self.ended = time.process_time()
        """When the last step's parts had been taken."""

    def after_step(self, step: int, policy: Policy, metrics: dict[str, float]) -> dict[str, float]:
        stream, sampler = self.stream, self.stream.sampler
        row = {"whole step": time.process_time() - self.ended}
        groups = [
            Group(text, place, [1000 * step + 10 * place + index for index in range(self.settings.rollout.candidates)])
            for place, text in enumerate(stream.prompts[: self.settings.prompts])
        ]
        began = time.process_time()
        rollouts = list(sampler.roll_out(policy, groups))
        row["rollout"] = time.process_time() - began
        began = time.process_time()
        with torch.no_grad():
            for rollout in rollouts:
                clock = Clock(policy.generator.device)
                stream.feedback.scores(Shown(rollout, policy.generator, sampler, stream.fps, 0, clock))
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

    def verdict(self) -> str | None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--candidates", type=int, default=6)
    parser.add_argument("--sampler-steps", type=int, default=10)
    given = parser.parse_args()
    main(given.steps, given.prompts, given.candidates, given.sampler_steps)
