"""A latent reward as the judge of online alignment: it reads the candidates' latents, and nothing is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.recipes.settings import RunSettings
from reelign.training.latent_guide import reward_key
from reelign.training.latent_reward import LatentReward
from reelign.training.latent_reward_files import load_latent_reward, read_shape
from reelign.training.sharding import wanted_by_launcher

if TYPE_CHECKING:
    from reelign.recipes.online.feedback import Shown


def check_blocks(folder: Path, settings: RunSettings) -> None:
    """Refuse a reward on the generator's own blocks to a run that trains or shards them.

    The storage is the same: the optimiser would move what scores it, and what is in pieces cannot be read.
    """
    sharded = settings.trainer.sharded or wanted_by_launcher()
    if read_shape(folder).train == "full" or (settings.lora is not None and not sharded):
        return
    how = "trains the model's own weights" if settings.lora is None else "shards them over the ranks"
    raise ReelignError(
        f"latent:{folder} reads the generator's own blocks, and this run {how}.",
        "Train a reward with blocks of its own (latent-reward train train=full), or a LoRA with sharded=false.",
    )


class LatentFeedback:
    """Scores of a latent reward on clean latents, each candidate scored once.

    Its weights are opened with the generator that samples, over whose first blocks it stands without their adapter.

    Args:
        folder: that `reelign latent-reward train` printed.
    Raises:
        ReelignError: there is no latent reward.
    """

    reads_pixels = False

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.name = f"latent:{self.folder}"
        self.dimensions: tuple[str, ...] = read_shape(self.folder).dimensions
        self.version = reward_key(self.folder)
        self.ties: Mapping[str, float] = {}
        self._reward: LatentReward | None = None

    @torch.no_grad()
    def scores(self, shown: Shown) -> dict[str, Tensor]:
        """{dimension: (groups, candidates) fp32} on the CPU; NaN where the latents are not finite."""
        generator, latents = shown.generator, shown.rollout.latents
        if self._reward is None:
            self._reward = load_latent_reward(self.folder, generator)
        rows = torch.tensor([group.row for group in shown.rollout.groups for _ in group.seeds])
        parts = []
        for place in torch.arange(len(rows)).split(shown.sampler.batch_size):
            own = latents.flatten(0, 1)[place]
            clean = generator.path.clean_sigmas(len(own)).to(own.device)
            conditioning = shown.sampler.sides.own.take(rows[place]).to(own.device)
            parts.append(self._reward(own, clean, conditioning))
        return {
            name: torch.cat([part[name].float().cpu() for part in parts]).reshape(latents.shape[:2])
            for name in self.dimensions
        }
