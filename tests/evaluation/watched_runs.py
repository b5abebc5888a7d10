"""Runs with a watch, as their folders look afterwards."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from reelign.diffusion.seeds import generator_from
from reelign.training.looks import Look, write_look
from reelign.training.parting import alarms

PROMPTS = tuple(f"prompt {number // 2}" for number in range(16))


def watched_run(folder: Path, *, hacked: bool, looks: int = 6, every: int = 20) -> Path:
    """A run whose held-out reward rises and, where it is hacked, falls again; the alarms are the rule's own."""
    chance = generator_from("watched run")
    levels = torch.rand(16, generator=chance)

    def look(step: int, rise: float, held_out: float, sharp: float) -> Look:
        noise = 0.05 * torch.randn(3, 16, generator=chance)
        scores = {
            "training/score": levels + rise + noise[0],
            "held_out/a <b>judge</b> $x$/VQ": levels + held_out + noise[1],
            "proxy/sharpness": (1 + levels) * sharp + noise[2],
            "proxy/distance": torch.full((16,), 0.01 * step),
        }
        return Look(step, PROMPTS, scores)

    base = best = look(0, 0.0, 0.0, 1.0)
    (folder / "samples" / "watch").mkdir(parents=True)
    write_look(folder / "watch" / "base.json", base)
    stopped = None
    for number in range(looks + 1):
        step, fall = number * every, 0.15 * max(0, number - 3) if hacked else 0.0
        now = look(step, 0.1 * number, 0.1 * min(number, 3) - fall, 1 + 0.02 * number) if number else base
        found = alarms(now, best, base, level=0.95, looks=number, bands={"sharpness": (0.5, 2.0)}) if number else []
        if float(now.training.mean()) and number <= 3:
            best = now
        if found and number == looks:
            stopped = f"the watch gave alarm: {found[0].what}"
        told = [{"kind": each.kind, "name": each.name, "what": each.what} for each in found]
        write_look(folder / "watch" / f"step-{step:06d}.json", now, alarms=told, best=best.step, stopped=stopped)
        if number:
            Image.new("RGB", (1200, 400), (20 * number, 80, 120)).save(
                folder / "samples" / "watch" / f"step-{step:06d}.png"
            )
    return folder
