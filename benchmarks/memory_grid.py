"""What reward gradients and online DPO hold by size: `python benchmarks/memory_grid.py --out grid.json`.

The grid of OnlineVPO's Figure 3 (arXiv:2412.15159) for Wan 2.1 1.3B with LoRA in bf16, by the planner: ReFL the plain
way (everything in one graph), reward gradients as they are taken here, and online DPO. A cell is written as it is found
and not planned again; at the end the table of docs/memory.md is printed. An allocator, workspaces and the device's
context add 10 to 15 %.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from reelign.files import write_text
from reelign.generators.published import shapes_of
from reelign.recipes.planning.plan import plan
from reelign.recipes.planning.planned_models import METHODS, in_short
from reelign.recipes.reward_gradient.settings import RewardGradientSettings
from reelign.recipes.sampling import GenerateSettings
from reelign.recipes.settings import RunSettings
from reelign.training.staged_decode import DecodeSettings

GIB = 2**30
MODEL = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
SIZES = {"240p": (240, 416), "360p": (352, 640), "480p": (480, 832), "720p": (720, 1280)}
HERE = METHODS["reward_gradient"]
assert isinstance(HERE, RewardGradientSettings)
WAYS: dict[str, RunSettings] = {
    "plain": replace(
        HERE, reward=replace(HERE.reward, checkpointing=False), graph="held", decode=DecodeSettings(mode="whole")
    ),
    "here": HERE,
    "online": METHODS["online"],
}


def main(rows: list[str], frames: list[int], ways: list[str], vae_dtype: torch.dtype, out: Path) -> None:
    cells: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    for size in rows:
        for count in frames:
            for way in ways:
                name = f"{size} x {count}, {way}"
                if name not in cells:
                    cells[name] = cell(size, count, way, vae_dtype)
                    write_text(out, json.dumps(cells, indent=1) + "\n")
                    print(f"{name}: {cells[name]}", flush=True)
    print("| size, frames | ReFL, one graph | reward gradient here | host | online DPO |\n" + "|---" * 5 + "|")
    for size in rows:
        for count in frames:
            plain, here, online = (cells.get(f"{size} x {count}, {way}") for way in WAYS)
            if plain and here and online:
                sizes = [plain["peak"], plain["by"]["decoder"], here["peak"], here["host"], online["peak"]]
                first, decoder, *others = (f"{each / GIB:.1f}" for each in sizes)
                height, width = SIZES[size]
                head = f"| {height} x {width}, {count} | {first}, of it the decoder {decoder} | "
                print(head + " | ".join(others) + " |")


def cell(size: str, count: int, way: str, vae_dtype: torch.dtype) -> dict[str, Any]:
    """The most while it trains, of what; prompts are encoded once, before anything else is there."""
    began = time.process_time()
    height, width = SIZES[size]
    sampling = GenerateSettings(num_frames=count, height=height, width=width)
    found = plan(shapes_of(MODEL, vae_dtype=vae_dtype), WAYS[way], sampling)
    short = in_short(found)
    stage = next(each for each in found.stages if each.total == short.training)
    seconds = round(time.process_time() - began)
    held = sum(stage.held.values())
    return {
        "peak": short.training,
        "stage": stage.name,
        "held": held,
        "by": stage.by,
        "host": short.host,
        "cpu_s": seconds,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--frames", nargs="+", type=int, default=[17, 65, 81])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--vae-dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--out", type=Path, required=True, help="the cells; what is there is not planned again")
    options = parser.parse_args()
    main(options.rows, options.frames, options.ways, getattr(torch, options.vae_dtype), options.out)
