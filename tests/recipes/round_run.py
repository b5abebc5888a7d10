"""Rounds on the tiny Wan, also in a process of their own, to be killed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from reelign.critics import Comparison, Critic, Grade, Rating, Tally
from reelign.iterating import iterate
from reelign.recipes.rounds.iterate import Iterated
from reelign.records import Workspace
from reelign.video import Clip

PROMPTS = {
    "train": ["a red square", "a blue disc moves"],
    "selection": ["a red disc", "a disc"],
    "held_out": ["a blue square", "a square"],
}
SETTINGS = {
    "generate": {
        "candidates": 3,
        "num_inference_steps": 2,
        "guidance_scale": 1.0,
        "num_frames": 5,
        "height": 16,
        "width": 16,
        "fps": 8,
    },
    "judge": {"judge": "recipes.judges:Brightness"},
    "align": {
        "objective": {"beta": 10.0},
        "batch_size": 2,
        "lora": {"rank": 2, "alpha": 2},
        "trainer": {"steps": 4, "learning_rate": 3e-3, "checkpoint_every": 1, "ema_decay": 0.5},
        "trackers": [],
    },
    "iterate": {
        "rounds": 2,
        "patience": 2,
        "selection": {"scorer": "recipes.round_run:darkness", "seeds": 1},
        "report": {"scorer": "recipes.round_run:redness", "seeds": 1},
    },
}


def darkness(videos: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
    """Against what Brightness wants, so that the last round need not be the best."""
    return {"dark": 1 - videos.flatten(1).mean(dim=1)}


def redness(videos: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
    return {"red": videos[:, :, 0].flatten(1).mean(dim=1)}


class Grades(Critic):
    """Calls every third video good, the next one bad, and gives no grade to the sixth."""

    name = "grades"
    version = "1"
    compares: tuple[str, ...] = ()
    rates = ("overall",)

    def __init__(self) -> None:
        self.tally = Tally()
        self.asked = 0

    def compare(self, a: Clip, b: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Comparison:
        raise NotImplementedError

    def rate(self, video: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Rating:
        self.asked += 1
        if self.asked == 6:
            return Rating(grade=None, left_out="unparseable")
        grades: tuple[Grade, ...] = ("good", "bad", "normal")
        return Rating(grade=grades[(self.asked - 1) % 3], reason=f"number {self.asked}")


def make(folder: Path, model: str, rounds: dict[str, Any] | None = None) -> Workspace:
    """A workspace with prompts in each split; `rounds` is its section `iterate`."""
    workspace = Workspace.create(folder, model=model)
    (folder / "reelign.yaml").write_text(yaml.safe_dump({**SETTINGS, **({"iterate": rounds} if rounds else {})}))
    for split, texts in PROMPTS.items():
        workspace.add_prompts(texts, split)
    return workspace


def run(folder: Path) -> Iterated:
    """All rounds; started again, they go on."""
    torch.set_num_threads(1)
    return iterate(folder)
