"""Rounds whose judge is trained again between them, small enough for every test."""

from __future__ import annotations

from typing import Any

from recipes.critic_worlds import Eye
from recipes.round_run import SETTINGS
from reelign.critics import Comparison
from reelign.video import Clip

TINY: dict[str, Any] = {
    "dimensions": ["VQ"],
    "lora": {"rank": 2, "alpha": 2},
    "batch_size": 2,
    "epochs": 0,
    "trainer": {"steps": 1, "learning_rate": 1e-4, "warmup_steps": 0},
    "device": "cpu",
}
REWARD: dict[str, Any] = {
    **TINY,
    "agnostic": ["VQ"],
    "template": "short",
    "train_vision": False,
    "clips": {"fps": 4, "min_pixels": 784, "max_pixels": 784},
    "watch": {"held_out": 0, "calibration": 0},
}
CRITIC: dict[str, Any] = {
    **TINY,
    "frames": 2,
    "pixels": {"min_pixels": 784, "max_pixels": 784},
    "watch": {"held_out": 0},
    "max_tokens": 8,
}
SAYS = {"\n": {"Verdict:": 1.0}, "Verdict:": {" A": 0.6, " B": 0.3, " tie": 0.1}}
SAYS |= {word: {"<|im_end|>": 1.0} for word in (" A", " B", " tie")}


class Sees(Eye):
    """Of the tiny Wan's noise: the brighter, whatever the place, and always sure of it."""

    name = "sees"

    def compare(self, a: Clip, b: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Comparison:
        verdict = "a" if a.frames.mean() > b.frames.mean() else "b"
        return Comparison(verdict=verdict, certainty=1.0, reason="It is lighter.")


def dual_settings(judge: str, **changes: Any) -> dict[str, Any]:
    """Of two rounds of one step each."""
    align = {**SETTINGS["align"], "trainer": {"steps": 1, "learning_rate": 3e-3}}
    return {
        **SETTINGS["iterate"],
        "generate": SETTINGS["generate"],
        "judge": {"judge": judge},
        "align": align,
        "report": {"scorer": ""},
        "refresh": {"critic": "recipes.dual_worlds:Sees", "fewest": 2},
        **changes,
    }
