"""What a reward-gradient step costs beside its parts: `python benchmarks/reward_gradient_step.py`.

With `--memory`, what it holds at most beside one graph of everything, at 33 frames.

The parts are what no way of doing it can leave out: the sampling prefix without gradients, and one forward and backward
each of the denoiser (its last step, guidance included), of the VAE's decoder and of the reward, each by plain autograd.
The step is what `reelign align stream=reward_gradient` does, with the memory-saving ways of its defaults and without
them. CPU seconds of this process on one thread, the least of several rounds in which all take turns. Memory is what
lives at most during a step, weights and gradients included, caches on the host too (on a CPU there is no elsewhere).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from live_memory import LiveMemory

from reelign.diffusion.seeds import generator_from
from reelign.diffusion.truncation import LastSteps, run, through
from reelign.generators import Guidance, load_generator
from reelign.recipes.reward_gradient.scoring import PixelLoss, open_choice, weights_of
from reelign.recipes.reward_gradient.settings import RewardChoice, RewardGradientSettings
from reelign.recipes.reward_gradient.step import RewardGradientStep, route_for
from reelign.recipes.reward_gradient.stream import RolloutBatch
from reelign.recipes.sampling import GenerateSettings, Sampling
from reelign.training import LoRA, Policy
from reelign.training.graded_rollout import GradedRollout
from reelign.training.staged_decode import DecodeSettings

PROMPTS = ["a red ring moves left", "a blue square moves up", "a green triangle grows", "a yellow cross moves right"]
WAYS = {
    "step, reverse": ("step", DecodeSettings(mode="reverse")),
    "step, chunk": ("step", DecodeSettings(mode="chunk")),
    "held, whole": ("held", DecodeSettings(mode="whole")),
}
"""Of graph and decode; the first is the default, which saves the most memory."""


def main(steps: int, videos: int, rounds: int, model: str, reward_name: str) -> dict[str, float]:
    torch.set_num_threads(1)
    settings = RewardGradientSettings(
        reward=RewardChoice(name=reward_name), gradient=LastSteps(steps=1), micro_batch_size=videos
    )
    bench = Bench(settings, steps, videos, model)
    for way in WAYS:
        bench.step(way)
    parts = {"prefix": bench.prefix, "denoiser": bench.denoiser, "decoder": bench.decoder, "reward": bench.reward}
    wholes: dict[str, Callable[[], None]] = {way: (lambda way=way: bench.step(way)) for way in WAYS}
    times: dict[str, list[float]] = {name: [] for name in (*parts, *wholes)}
    for _ in range(rounds):
        for name, call in (*parts.items(), *wholes.items()):
            began = time.process_time()
            call()
            times[name].append(time.process_time() - began)
    least = {name: min(each) for name, each in times.items()}
    sum_of_parts = sum(least[name] for name in parts)
    for name in parts:
        print(f"{name:14s} {least[name]:.3f} s")
    print(f"{'all parts':14s} {sum_of_parts:.3f} s")
    ratios = {way: least[way] / sum_of_parts for way in WAYS}
    for way, ratio in ratios.items():
        print(f"{way:14s} {least[way]:.3f} s, {ratio:.2f} of the parts (at most 1.15 is wanted)")
    return ratios


def memory(frames: int, graded: int, videos: int, model: str, reward_name: str) -> dict[str, float]:
    """Live bytes at most of each way, over those of one graph through sampler, decoder and reward."""
    torch.set_num_threads(1)
    settings = RewardGradientSettings(
        reward=RewardChoice(name=reward_name), gradient=LastSteps(steps=graded), micro_batch_size=videos
    )
    bench = Bench(settings, graded + 2, videos, model, frames=frames)
    ways: dict[str, Callable[[], None]] = {way: (lambda way=way: bench.step(way)) for way in WAYS}
    peaks = {}
    for name, call in {"one graph": bench.one_graph, **ways}.items():
        call()  # gradients are there, and the first look at the reward is over
        gradients = [each.grad for each in bench.policy.parameters.values()]
        models = [
            module for module in bench.policy.generator.pipeline.components.values() if hasattr(module, "parameters")
        ]
        held = [[*each.parameters(), *each.buffers()] for each in models]
        with LiveMemory([held, gradients]) as live:
            call()
        peaks[name] = live.peak
    for name, peak in peaks.items():
        print(f"{name:14s} {peak / 2**20:.0f} MiB at most, {peak / peaks['one graph']:.2f} of one graph")
    return {name: peak / peaks["one graph"] for name, peak in peaks.items()}


class Bench:
    """One batch of the small world, its whole step and its parts."""

    def __init__(
        self, settings: RewardGradientSettings, steps: int, videos: int, model: str, *, frames: int | None = None
    ) -> None:
        generator = load_generator(model)
        self.policy = Policy(generator, LoRA())
        self.settings = settings
        given = GenerateSettings(num_inference_steps=steps, num_frames=frames)
        self.sampling = Sampling.resolve(given, generator)
        prompts = [PROMPTS[place % len(PROMPTS)] for place in range(videos)]
        seeds = list(range(videos))
        self.batch = RolloutBatch(prompts, generator.encode_prompts(prompts), seeds, 0)
        self.negative = generator.encode_prompts([""])
        reward = open_choice(settings.reward)
        weights = weights_of(settings.objective, reward)
        self.loss = PixelLoss(reward, settings.objective, weights, settings.frames, self.sampling.fps)
        route = route_for(generator, settings, self.sampling, generator_from(0))
        negative = self.negative.take(torch.zeros(videos, dtype=torch.long))
        guidance = Guidance(self.sampling.guidance_scale, negative)
        self.rollout = GradedRollout(generator, self.batch.conditioning, guidance, settings.sampler, route, seeds)
        self.start = self.rollout.start(generator.latent_shape(self.sampling.size))
        self.noisy = run(self.rollout.step, self.start, self.rollout.first)
        with torch.no_grad():
            self.latents = self.rollout.finish(through(self.rollout.step, self.noisy, self.rollout.first, 1))
            self.video = generator.decode(self.latents)

    def step(self, way: str) -> None:
        """All of it, as training does it."""
        graph, decode = WAYS[way]
        settings = replace(self.settings, graph=graph, decode=decode)
        step = RewardGradientStep(self.loss, settings, self.sampling, self.negative)
        step.accumulate_gradients(self.policy, self.batch)

    def one_graph(self) -> None:
        """The same step by autograd alone."""
        rollout, generator = self.rollout, self.policy.generator
        noisy = run(rollout.step, self.start, rollout.first)
        latents = rollout.finish(through(rollout.step, noisy, rollout.first, rollout.route.graded))
        video = generator.decode(latents)
        loss, _ = self.loss(video, self.batch.prompts, None, video.shape[1], 1.0)
        loss.backward()

    def prefix(self) -> None:
        run(self.rollout.step, self.start, self.rollout.first)

    def denoiser(self) -> None:
        latents = through(self.rollout.step, self.noisy, self.rollout.first, 1)
        latents.backward(torch.ones_like(latents))

    def decoder(self) -> None:
        leaf = self.latents.clone().requires_grad_()
        video = self.policy.generator.decode(leaf)
        video.backward(torch.ones_like(video))

    def reward(self) -> None:
        leaf = self.video.clone().requires_grad_()
        loss, _ = self.loss(leaf, self.batch.prompts, list(self.batch.names), None, leaf.shape[1], 1.0)
        loss.backward()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10, help="of the sampler")
    parser.add_argument("--videos", type=int, default=4, help="in a batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="spriteworld")
    parser.add_argument("--reward", default="reelign.spriteworld.reward:SpriteReward")
    parser.add_argument("--memory", action="store_true", help="bytes instead of seconds")
    parser.add_argument("--frames", type=int, default=33, help="of a clip, for --memory")
    parser.add_argument("--graded", type=int, default=3, help="steps that carry gradient, for --memory")
    options = parser.parse_args()
    if options.memory:
        memory(options.frames, options.graded, options.videos, options.model, options.reward)
        raise SystemExit
    main(options.steps, options.videos, options.rounds, options.model, options.reward)
