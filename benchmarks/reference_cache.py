"""What kept reference errors save, and what few draws a pair cost: `python benchmarks/reference_cache.py`.

First the CPU seconds of a Flow-DPO step on one pair whose reference errors are known, over one whose are not: medians
of interleaved repeats in this process. Then the error that few slots leave in the gradient: the squared distance of the
gradient averaged over 16 epochs to that over 128 fresh epochs, over the squared length of the latter.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.generators import load_generator
from reelign.objectives import DPO
from reelign.recipes.offline.reference_cache import ReferenceCache, SlottedStream
from reelign.recipes.settings import AlignSettings
from reelign.recipes.steps.pair import DPOStep
from reelign.spriteworld.world import sample_mix
from reelign.training import LoRA, Policy

OBJECTIVE = DPO(beta=100.0)


def main(pairs: int, repeats: int, epochs: int, long: int) -> None:
    torch.set_num_threads(1)
    policy, latents, prompts = setting(pairs)
    ratio, seconds = timing(policy, latents[:1], prompts[:1], repeats)
    print(f"cached / uncached step: {ratio:.3f} ({seconds:.3f} s uncached, {repeats} repeats)")
    truth = average(policy, latents, prompts, slots=long, epochs=long, seed=1)
    for slots in (1, 2, 4, 8, epochs):
        found = [average(policy, latents, prompts, slots, epochs, seed) for seed in (2, 3, 4)]
        left = statistics.mean(float((each - truth).square().sum() / truth.square().sum()) for each in found)
        name = "fresh draws" if slots == epochs else f"{slots} slots"
        print(f"{name}: gradient of {epochs} epochs off by {left:.4f} of its square")


def setting(pairs: int) -> tuple[Policy, Tensor, list[str]]:
    """The small world's pipeline a little off its base; real clips against the same with their frames reversed."""
    generator = load_generator("spriteworld")
    videos, prompts, *_ = sample_mix(pairs, generator_from("benchmark"))
    with torch.no_grad():
        latents = torch.stack([generator.encode(videos), generator.encode(videos.flip(1))], dim=1)
    policy = Policy(generator, LoRA())
    with torch.no_grad():
        for name, parameter in policy.parameters.items():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator_from(name)))
    return policy, latents, list(prompts)


def timing(policy: Policy, latents: Tensor, prompts: list[str], repeats: int) -> tuple[float, float]:
    """Median CPU seconds of a known visit over an unknown one, and of the latter."""
    with tempfile.TemporaryDirectory() as folder:
        step, stream = parts(policy, latents, prompts, slots=repeats + 1, folder=folder)
        spent: dict[float, list[float]] = {2.0: [], 4.0: []}
        for _ in range(repeats + 1):
            batch = stream.next_batch()
            for _ in range(2):  # unknown at the first visit of a slot, known at the second
                began = time.process_time()
                metrics = step.accumulate_gradients(policy, batch)
                spent[metrics["forwards_per_pair"]].append(time.process_time() - began)
    known, unknown = (statistics.median(spent[forwards][1:]) for forwards in (2.0, 4.0))
    return known / unknown, unknown


def average(policy: Policy, latents: Tensor, prompts: list[str], slots: int, epochs: int, seed: int) -> Tensor:
    """The gradient at the policy as it is, averaged over epochs of all pairs."""
    with tempfile.TemporaryDirectory() as folder:
        step, stream = parts(policy, latents, prompts, slots=slots, folder=folder, seed=seed)
        for parameter in policy.parameters.values():
            parameter.grad = None
        for _ in range(slots):  # every slot comes equally often, so that one round of them is the whole average
            step.accumulate_gradients(policy, stream.next_batch())
    assert epochs % slots == 0
    return torch.cat([each.grad.flatten() for each in policy.parameters.values() if each.grad is not None]) / slots


def parts(
    policy: Policy, latents: Tensor, prompts: list[str], *, slots: int, folder: str, seed: int = 0
) -> tuple[DPOStep, SlottedStream]:
    count = len(latents)
    settings = AlignSettings(objective=OBJECTIVE, batch_size=count, micro_batch_size=count, seed=seed)
    conditioning = policy.generator.encode_prompts(prompts)
    cache = ReferenceCache(Path(folder), policy.generator, settings, latents, conditioning)
    stream = SlottedStream(latents, conditioning, torch.arange(count), slots=slots, batch_size=count, seed=seed)
    return DPOStep(OBJECTIVE, settings, cache=cache), stream


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--long", type=int, default=128)
    options = parser.parse_args()
    main(options.pairs, options.repeats, options.epochs, options.long)
