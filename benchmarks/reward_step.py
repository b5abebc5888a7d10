"""What a pair step of a reward's training costs beside the reference trainer's way: `python benchmarks/reward_step.py`.

VideoReward's authors train three reward tokens through the whole embedding table: it has gradients and moments, is
copied before every step and written back but for three rows behind it; the two videos of a pair go through the model
one after the other, and the head reads all tokens. Here the tokens are a parameter of their own, both videos share a
forward, and the head reads the tokens' places. Both ways train the same tower, adapter and head on the same pairs with
the same AdamW, at Qwen2-VL's vocabulary and a tiny width. Time is of this process on one core; memory is what lives at
most during a step, weights and moments included.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from live_memory import LiveMemory
from small_vlm import CLIPS, save, untrained
from torch import Tensor, nn

from reelign.objectives.ranking import BradleyTerryTies, bradley_terry_ties_loss
from reelign.recipes.reward.policy import RewardPolicy
from reelign.recipes.reward.settings import RewardLoRA, RewardSettings
from reelign.recipes.reward.step import RewardStep
from reelign.recipes.reward.stream import RewardBatch
from reelign.recipes.reward.training import make_model
from reelign.rewards.qwen_vl import hidden_states
from reelign.spriteworld.world import FPS, sample_mix

VOCABULARY = 151_936
MIB = 2**20


def main(pairs: int, hidden: int, steps: int) -> dict[str, float]:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        backbone = save(untrained(vocabulary=VOCABULARY, hidden=hidden), Path(folder))
        settings = RewardSettings(
            backbone=str(backbone),
            template="short",
            clips=CLIPS,
            positions="sequential",
            lora=RewardLoRA(rank=16, alpha=32),
            device="cpu",
        )
        ways = {"reference": reference_way(settings, pairs), "own": own_way(settings, pairs)}
        found = {name: measured(*way, steps=steps) for name, way in ways.items()}
    for name, (seconds, peak) in found.items():
        print(f"{name:9s}  {seconds:.3f} s of CPU a step, {peak / MIB:.0f} MiB at most")
    ratios = {what: found["own"][place] / found["reference"][place] for place, what in enumerate(("CPU", "memory"))}
    print(f"ratio      CPU {ratios['CPU']:.2f}, memory {ratios['memory']:.2f} (at most 0.30 is wanted of both)")
    return ratios


def own_way(settings: RewardSettings, pairs: int) -> tuple[Callable[[], None], list[Any]]:
    """A step as `reelign reward train` does it, and the optimiser's parts to count."""
    policy = RewardPolicy(make_model(settings), settings)
    optimiser = torch.optim.AdamW(policy.parameters.values(), lr=2e-6)
    step, batch = RewardStep(settings.objective, micro_batch_size=pairs), batch_of(policy.model, pairs)

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        step.accumulate_gradients(policy, batch)
        torch.nn.utils.clip_grad_norm_(policy.parameters.values(), 1.0)
        optimiser.step()
        policy.refresh()

    return run, [policy.model, optimiser]


def reference_way(settings: RewardSettings, pairs: int) -> tuple[Callable[[], None], list[Any]]:
    """A step as the authors' trainer does it, written after its description."""
    policy = RewardPolicy(make_model(settings), settings)
    model = policy.model
    table = model.backbone.get_input_embeddings().weight.requires_grad_(True)
    model.reward_tokens = None
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=2e-6)
    batch = batch_of(model, pairs)
    special = torch.tensor(model.preparer.reward_ids)
    others = torch.ones(len(table), dtype=torch.bool)
    others[special] = False
    log_theta = float(torch.tensor(BradleyTerryTies().theta).log())
    sides = [batch.pairs[:, side].tolist() for side in (0, 1)]

    def rewards(side: list[int]) -> Tensor:
        ready = model.preparer.batch([batch.seen[each] for each in side], [batch.prompts[each] for each in side])
        words = nn.functional.embedding(ready.input_ids, table)
        states = hidden_states(model.backbone, ready, words, positions="sequential")
        scores: Tensor = model.head(states)
        return scores[torch.isin(ready.input_ids, special)].view(len(side), -1)

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        before = table.detach().clone()
        a, b = rewards(sides[0]), rewards(sides[1])
        loss = bradley_terry_ties_loss(a, b, batch.labels, log_theta=log_theta).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        with torch.no_grad():
            table[others] = before[others]

    return run, [model, optimiser]


def batch_of(model: Any, pairs: int) -> RewardBatch:
    """Pairs of which no two share a video, so that sharing saves nothing here."""
    videos, prompts, *_ = sample_mix(2 * pairs, torch.Generator().manual_seed(0))
    return RewardBatch(
        seen=tuple(model.preparer.look(video, FPS) for video in videos),
        prompts=tuple(prompts),
        pairs=torch.arange(2 * pairs).view(pairs, 2),
        labels=torch.tensor([[1.0, 0.0, -1.0]]).expand(pairs, 3),
        gaps=torch.zeros(pairs, 3),
        scores=torch.full((2 * pairs, 3), torch.nan),
    )


def measured(run: Callable[[], None], held: list[Any], *, steps: int) -> tuple[float, float]:
    """Seconds of CPU a step, and the most bytes that live during one; moments are there after the first."""
    run()
    began = time.process_time()
    for _ in range(steps):
        run()
    seconds = (time.process_time() - began) / steps
    model, optimiser = held
    moments = [each for state in optimiser.state.values() for each in state.values()]
    gradients = [parameter.grad for parameter in model.parameters()]
    with LiveMemory([list(model.parameters()), list(model.buffers()), moments, gradients]) as memory:
        del moments, gradients
        run()
    return seconds, memory.peak


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=1, help="in a step; the authors' script has one for each device")
    parser.add_argument("--hidden", type=int, default=256, help="width of the language model, a multiple of 32")
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    main(options.pairs, options.hidden, options.steps)
