"""What reward guidance adds to a sampling with classifier-free guidance: `python benchmarks/guidance_cost.py`.

A tiny Wan whose transformer dominates, guided by a latent reward over a quarter of its blocks, at every step and at
every second one, against the same sampling without it, in one run and turn by turn. Time is of this process on one
core; memory is what lives at most, weights of model and reward included, with the reward's blocks run again in the
backward pass and without.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanTransformer3DModel
from live_memory import LiveMemory
from torch import Tensor

from reelign.diffusion.guidance import RewardGuidance
from reelign.diffusion.samplers import initial_noise, sample_euler
from reelign.generators.base import Conditioning, Guidance
from reelign.generators.trunk import block_count, checkpoint_blocks
from reelign.generators.wan import Wan
from reelign.training.latent_guide import LatentGuide
from reelign.training.latent_reward import LatentReward, LatentRewardShape, new_latent_reward

MIB = 2**20
LATENTS = (16, 5, 16, 16)


class Denoising(Wan):
    """Wan's transformer and schedule alone: nothing is encoded or decoded here."""

    def __init__(self, transformer: WanTransformer3DModel) -> None:
        self.pipeline: Any = type("Parts", (), {})()
        self.pipeline.transformer = transformer.requires_grad_(False).eval()
        self.pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
        self.model = "tiny"


def main(layers: int, width: int, steps: int, repeats: int) -> dict[str, float]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    generator = Denoising(transformer(layers, width))
    text = Conditioning({"prompt_embeds": torch.randn(1, 32, 64)})
    negative = Conditioning({"prompt_embeds": torch.zeros(1, 32, 64)})
    blocks = max(1, block_count(generator) // 4)
    rewards = {again: awake(generator, blocks, text, again=again) for again in (False, True)}

    def sampling(guide: LatentGuide | None) -> Callable[[], Tensor]:
        return lambda: sampled(generator, text, negative, steps, guide)

    ways = {"plain": sampling(None)}
    for again, how in ((False, ""), (True, ", run again")):
        for each, step in ((1, "every step"), (2, "every second")):
            ways[step + how] = sampling(LatentGuide(rewards[again], {"VQ": 0.1}, RewardGuidance(every=each)))
    seconds = timed(ways, repeats)
    peaks = {name: peak(way, [generator.pipeline.transformer, *rewards.values()]) for name, way in ways.items()}
    print(f"{layers} blocks {width} wide, {blocks} of them in the reward, {steps} steps; CPU s and live MiB")
    for name in ways:
        print(
            f"{name:24s} {seconds[name]:.3f} s ({seconds[name] / seconds['plain']:.2f})  "
            f"{peaks[name] / MIB:.1f} MiB ({peaks[name] / peaks['plain']:.2f})"
        )
    print("at most 1.40 is wanted of every step, 1.20 of every second, and 1.30 of the memory with blocks run again")
    return {name: seconds[name] / seconds["plain"] for name in ways}


def transformer(layers: int, width: int) -> WanTransformer3DModel:
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=width // 32,
        attention_head_dim=32,
        in_channels=LATENTS[0],
        out_channels=LATENTS[0],
        text_dim=64,
        freq_dim=64,
        ffn_dim=4 * width,
        num_layers=layers,
        rope_max_seq_len=32,
    )


def awake(generator: Wan, blocks: int, text: Conditioning, *, again: bool) -> LatentReward:
    """A reward whose head says something, over the generator's own blocks."""
    shape = LatentRewardShape(
        dimensions=("VQ", "MQ", "TA"), blocks=blocks, train="head", lora=None, levels="noisy", queries=4, heads=4
    )
    reward = new_latent_reward(generator, shape, text, LATENTS, seed=0)
    torch.nn.init.normal_(reward.head.read, std=0.1)
    if again:
        checkpoint_blocks(reward.trunk)
    return reward


@torch.no_grad()
def sampled(
    generator: Wan, text: Conditioning, negative: Conditioning, steps: int, guide: LatentGuide | None
) -> Tensor:
    guidance, sigmas = Guidance(5.0, negative), generator.sigmas(steps)

    def velocity(noisy: Tensor, sigma: Tensor) -> Tensor:
        return generator.guided_velocity(noisy, sigma, text, guidance)

    bent = velocity if guide is None else guide(velocity, sigmas, text)
    return sample_euler(bent, initial_noise((1, *LATENTS), [0], "cpu"), sigmas)


def timed(ways: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, float]:
    """The least CPU time of each, taken in turns so that what disturbs one disturbs all."""
    best = dict.fromkeys(ways, float("inf"))
    for way in ways.values():
        way()
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.process_time()
            way()
            best[name] = min(best[name], time.process_time() - began)
    return best


def peak(way: Callable[[], Tensor], held: list[Any]) -> int:
    with LiveMemory(held) as memory:
        way()
    return int(memory.peak)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    main(arguments.layers, arguments.width, arguments.steps, arguments.repeats)
