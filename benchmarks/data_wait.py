"""How long a training step waits for its data: `python benchmarks/data_wait.py`.

Flow-DPO and SFT on the small world's pipeline, with the streams that `align` uses. CPU seconds of the next batch and of
the whole step, medians in this process; the share is what a step would gain if data came for nothing.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

from reelign.diffusion.seeds import generator_from
from reelign.generators import load_generator
from reelign.objectives import DPO, SFT
from reelign.recipes.settings import AlignSettings
from reelign.recipes.steps.pair import DPOStep
from reelign.recipes.steps.video import SFTStep
from reelign.spriteworld.world import sample_mix
from reelign.training import LoRA, PairBatch, Policy, ShuffledStream, VideoBatch


def main(samples: int, batch_size: int, repeats: int) -> None:
    torch.set_num_threads(1)
    generator = load_generator("spriteworld")
    videos, prompts, *_ = sample_mix(batch_size, generator_from("benchmark"))
    with torch.no_grad():
        latents = generator.encode(videos)
    # As many as a real run has; their content is of no account here.
    latents = latents.repeat(-(-samples // batch_size), 1, 1, 1, 1)[:samples]
    conditioning = generator.encode_prompts(list(prompts))
    rows = torch.arange(samples) % batch_size
    policy = Policy(generator, LoRA())
    settings = AlignSettings(batch_size=batch_size)
    kinds: dict[str, tuple[Any, Any, torch.Tensor]] = {
        "dpo": (DPOStep(DPO(), settings), PairBatch, torch.stack([latents, latents.flip(0)], dim=1)),
        "sft": (SFTStep(SFT(), settings), VideoBatch, latents),
    }
    for name, (step, batch, data) in kinds.items():
        stream = ShuffledStream(batch, data, conditioning, rows, batch_size=batch_size, seed=0)
        waits, steps = [], []
        for _ in range(repeats + 1):
            began = time.process_time()
            made = stream.next_batch()
            waited = time.process_time()
            step.accumulate_gradients(policy, made)
            waits.append(waited - began)
            steps.append(time.process_time() - began)
        wait, whole = statistics.median(waits[1:]), statistics.median(steps[1:])
        print(
            f"{name}: {wait:.4f} of {whole:.3f} s waiting for data ({wait / whole:.2%}), {samples} samples", flush=True
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    main(options.samples, options.batch_size, options.repeats)
