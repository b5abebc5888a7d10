"""What reward gradients and online DPO hold by frames and resolution: `python benchmarks/memory_grid.py [--rows ...]`.

The grid of OnlineVPO's Figure 3 (arXiv:2412.15159) for Wan 2.1 1.3B with LoRA in bf16, by the planner: ReFL the plain
way (everything in one graph), reward gradients as they are taken here, and online DPO. A line per cell as it is found;
an allocator, workspaces and the device's context add 10 to 15 %.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch

from reelign.generators.published import shapes_of
from reelign.objectives.reward_gradient import RewardGradient
from reelign.recipes.generation import GenerateSettings
from reelign.recipes.online_settings import OnlineSettings, RolloutSettings
from reelign.recipes.planning import plan
from reelign.recipes.reward_gradient_settings import RewardChoice, RewardGradientSettings
from reelign.recipes.settings import RunSettings
from reelign.rewards.judging import RewardUse
from reelign.training import LoRA, TrainerSettings
from reelign.training.staged_decode import DecodeSettings

GIB = 2**30
MODEL = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
SIZES = {"240p": (240, 416), "360p": (352, 640), "480p": (480, 832), "720p": (720, 1280)}
ONE: dict[str, Any] = {
    "lora": LoRA(rank=64, alpha=128),
    "trainer": TrainerSettings(activation_checkpointing="full"),
    "micro_batch_size": 1,
}
GRADIENT: dict[str, Any] = {**ONE, "objective": RewardGradient(weights={"VQ": 1, "MQ": 1, "TA": 1}), "batch_size": 8}
WAYS: dict[str, RunSettings] = {
    "ReFL, plain": RewardGradientSettings(
        **GRADIENT, reward=RewardChoice(name="videoreward"), graph="held", decode=DecodeSettings(mode="whole")
    ),
    "ReFL, here": RewardGradientSettings(
        **GRADIENT, reward=RewardChoice(name="videoreward", checkpointing=True), decode=DecodeSettings(mode="reverse")
    ),
    "online DPO": OnlineSettings(
        **ONE,
        judge="reward:videoreward",
        reward=RewardUse(batch_size=1),
        rollout=RolloutSettings(batch_size=1),
        pairing="apart",
    ),
}


def main(rows: list[str], frames: list[int], ways: list[str], vae_dtype: torch.dtype) -> None:
    for size in rows:
        height, width = SIZES[size]
        for count in frames:
            for way in ways:
                began = time.process_time()
                sampling = GenerateSettings(num_frames=count, height=height, width=width)
                found = plan(shapes_of(MODEL, vae_dtype=vae_dtype), WAYS[way], sampling)
                # Prompts are encoded once, before anything else is there.
                peak = max(
                    (each for each in found.stages if each.name != "encode prompts"), key=lambda each: each.total
                )
                largest = ", ".join(f"{name} {size / GIB:.1f}" for name, size in sorted(peak.by.items()))
                print(
                    f"{size} x {count}, {way}: {peak.total / GIB:.1f} GiB in {peak.name} (held "
                    f"{sum(peak.held.values()) / GIB:.1f}; {largest}); host {found.host / GIB:.1f}; "
                    f"{time.process_time() - began:.0f} s of CPU",
                    flush=True,
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--frames", nargs="+", type=int, default=[17, 49, 81])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--vae-dtype", choices=["float32", "bfloat16"], default="bfloat16")
    options = parser.parse_args()
    main(options.rows, options.frames, options.ways, getattr(torch, options.vae_dtype))
