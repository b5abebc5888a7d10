"""What a Flow-DPO step on one pair holds in memory, by its schedule: `python benchmarks/pair_memory.py`.

Wan 2.1 1.3B at full size, LoRA of rank 64 over bf16, by fake tensors: the very code of a training step runs and every
tensor's bytes are counted, but nothing is computed. An allocator and a device's context come on top, 10 to 15 %.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from live_memory import LiveMemory, without_values
from torch._subclasses.fake_tensor import unset_fake_temporarily

from reelign.generators.base import Conditioning
from reelign.generators.wan import Wan
from reelign.objectives import DPO
from reelign.recipes.settings import AlignSettings
from reelign.recipes.steps.pair import DPOStep
from reelign.training import LoRA, PairBatch, Policy

SIZES = {"17 x 240 x 416": (16, 5, 30, 52), "81 x 480 x 832": (16, 21, 60, 104)}
SCHEDULES: dict[str, dict[str, Any]] = {
    "together": {"pairing": "together"},
    "apart": {"pairing": "apart"},
    "two passes": {"pairing": "apart", "two_pass": True},
}
CHECKPOINTING = ("none", "full", "selective")
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
GIB = 2**30


def main(sizes: list[str], checkpointing: list[str], lora: LoRA, layers: int) -> None:
    for size, kept in itertools.product(sizes, checkpointing):
        found = {name: gibibytes(SIZES[size], kept, how, lora, layers) for name, how in SCHEDULES.items()}
        plain = found["apart"]
        row = ", ".join(f"{name} {peak:.2f} GiB ({peak / plain:.2f})" for name, peak in found.items())
        print(f"{size}, checkpointing {kept}: {row}", flush=True)


def gibibytes(shape: tuple[int, ...], checkpointing: str, how: dict[str, Any], lora: LoRA, layers: int) -> float:
    """The most that lives at a time during one step, weights included."""
    with without_values():
        generator = wan(layers)
        policy = Policy(generator, lora)
        if checkpointing != "none":
            generator.enable_activation_checkpointing(keep_attention=checkpointing == "selective")
        embeds = torch.empty(1, 512, 4096, dtype=torch.bfloat16)
        batch = PairBatch(torch.empty(1, 2, *shape), Conditioning({"prompt_embeds": embeds}), seed=0)
        weights = [*generator.pipeline.transformer.parameters(), *policy.parameters.values()]
        step = DPOStep(DPO(), AlignSettings(batch_size=1, micro_batch_size=1, **how))
        with LiveMemory([weights, batch.latents, embeds], fake=True) as memory:
            step.accumulate_gradients(policy, batch)
    return memory.peak / GIB


def wan(layers: int) -> Wan:
    """Wan 2.1 1.3B without values; nothing else of its pipeline is asked for."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        transformer = WanTransformer3DModel(
            num_attention_heads=12, attention_head_dim=128, ffn_dim=8960, num_layers=layers, text_dim=4096
        )
    finally:
        torch.set_default_dtype(before)
    with unset_fake_temporarily():  # they read numbers as they are made
        vae = AutoencoderKLWan(base_dim=8, dim_mult=[1] * 4, num_res_blocks=1, temperal_downsample=[False, True, True])
        scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
        pipeline = WanPipeline(tokenizer=None, text_encoder=None, transformer=transformer, vae=vae, scheduler=scheduler)
        return Wan(pipeline, "Wan2.1-T2V-1.3B")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--checkpointing", nargs="+", choices=CHECKPOINTING, default=CHECKPOINTING)
    parser.add_argument("--targets", choices=("all", "attention"), default="all", help="what takes the adapter")
    parser.add_argument("--layers", type=int, default=30)
    options = parser.parse_args()
    lora = LoRA(rank=64, alpha=64, targets=ATTENTION if options.targets == "attention" else ())
    main(options.sizes, options.checkpointing, lora, options.layers)
