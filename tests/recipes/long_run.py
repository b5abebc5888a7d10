"""A run in a process of its own, to be killed: `align` on random latents."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from reelign.generators import load_generator
from reelign.objectives import DPO
from reelign.recipes.data.preferences import Clip, PreferenceData
from reelign.recipes.offline.align import AlignSettings, align
from reelign.records import Workspace
from reelign.training import LoRA, TrainerSettings

PAIRS = 5


def settings(steps: int, checkpoint_every: int) -> AlignSettings:
    return AlignSettings(
        run="killed",
        objective=DPO(beta=10.0),
        batch_size=3,
        lora=LoRA(rank=4),
        trainer=TrainerSettings(
            steps=steps, learning_rate=3e-3, checkpoint_every=checkpoint_every, ema_decay=0.9, warmup_steps=3
        ),
    )


def random_preferences(folder: Path) -> PreferenceData:
    """Pairs of random latents of two prompts, written where the workspace is."""
    shard = folder / "random.safetensors"
    chance = torch.Generator().manual_seed(0)
    latents = {f"{i}": torch.randn(16, 3, 2, 2, generator=chance) for i in range(2 * PAIRS)}
    if not shard.exists():
        save_file(latents, shard)
    clips = [Clip(folder / f"{name}.mp4", shard, name) for name in latents]
    rows = [number % 2 for number in range(PAIRS)]
    return PreferenceData(["a red square", "a disc"], clips[:PAIRS], clips[PAIRS:], rows, "random")


def run(model: str, folder: Path, steps: int, checkpoint_every: int) -> None:
    """The whole of `align`; started again, it goes on."""
    torch.set_num_threads(1)
    workspace = Workspace.create(folder, model=model)
    align(workspace, load_generator(model), settings(steps, checkpoint_every), data=random_preferences(folder))
