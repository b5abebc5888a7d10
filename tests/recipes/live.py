"""What a step holds with weights and values, to compare a plan with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from reelign.generators import Generator, load_generator
from reelign.recipes.online.settings import OnlineSettings
from reelign.recipes.planning.memory_plan import MemoryPlan
from reelign.recipes.settings import RunSettings
from reelign.training import Policy, TrainerSettings
from reelign.training.memory import LiveMemory
from reelign.training.optimisers import make_optimiser


def live_bytes(
    generator: Generator, settings: RunSettings, work: Callable[[Policy], Any], *held: Any, batch: Any = None
) -> int:
    """What a second step holds with real weights: the optimiser's moments are there.

    Of a batch that waits in the host's memory a device holds a micro-batch's copy, here half of it or a quarter.
    """
    policy = Policy(generator, settings.lora, moving=isinstance(settings, OnlineSettings))
    optimiser = make_optimiser(policy.parameters.values(), TrainerSettings())
    kept = settings.trainer.activation_checkpointing
    if kept != "none":
        generator.enable_activation_checkpointing(keep_attention=kept == "selective")
    modules = [*generator.denoisers.values(), *held]
    weights = [tensor for each in modules for tensor in (*each.parameters(), *each.buffers())]
    with LiveMemory([weights, *policy.parameters.values(), *(policy.reference or {}).values()]) as memory:
        work(policy)
        optimiser.step()
        optimiser.zero_grad()
        memory.peak = memory.now
        work(policy)
    if batch is None:
        return memory.peak
    waiting = batch.latents.nbytes + sum(each.nbytes for each in batch.conditioning.tensors.values())
    return memory.peak - waiting + waiting * settings.micro_batch_size // len(batch.latents)


def learn_total(found: MemoryPlan) -> int:
    return next(stage.total for stage in found.stages if stage.name == "learn")


def shapes(folder: Path) -> Generator:
    return load_generator(str(folder), weights=False)
