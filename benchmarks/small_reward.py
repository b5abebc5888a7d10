"""A small learned video reward with a gradient, for the studies of reward gradients: right enough to climb, and wrong
enough to be hacked.

A few 3D convolutions over a video and the words of its caption, fitted by least squares to the true mean score of a few
hundred of the base model's own videos. `small_reward:SmallReward` opens what `fit` saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reelign.diffusion.seeds import generator_from
from reelign.rewards import Reward, RewardCard, Videos, check_input
from reelign.spriteworld.prompts import COLOURS, MOTIONS, SHAPES, parse

WORDS = (len(COLOURS), len(SHAPES), len(MOTIONS))


class Network(nn.Module):
    """(B, F, 3, 32, 32) and words (B, 3) to (B,)."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.seeing = nn.Sequential(
            nn.Conv3d(3, width, (3, 4, 4), stride=(2, 4, 4)),
            nn.GELU(),
            nn.Conv3d(width, 2 * width, (3, 3, 3), stride=(2, 2, 2), padding=(0, 1, 1)),
            nn.GELU(),
            nn.Conv3d(2 * width, 2 * width, (1, 3, 3), padding=(0, 1, 1)),
            nn.GELU(),
        )
        self.reading = nn.Linear(sum(WORDS), 2 * width)
        self.judging = nn.Sequential(nn.Linear(6 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, 1))

    def forward(self, videos: Tensor, words: Tensor) -> Tensor:
        seen = self.seeing(2 * videos.transpose(1, 2) - 1).flatten(2)
        told = torch.cat([F.one_hot(words[:, place], count) for place, count in enumerate(WORDS)], dim=1).float()
        states = torch.cat([seen.mean(dim=2), seen.amax(dim=2), self.reading(told)], dim=1)
        found: Tensor = self.judging(states)[:, 0]
        return found


def fit(
    videos: Tensor, prompts: Sequence[str], scores: Tensor, path: Path, *, steps: int = 600, seed: int = 0
) -> float:
    """Fit a network and save it; returns the correlation with scores of a fifth that it did not see.

    Args:
        videos: (N, F, 3, 32, 32) in [0, 1].
        prompts: N captions.
        scores: (N,) true ones.
        path: a safetensors file to write.
        steps: of 32 videos.
        seed: of weights and batches.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network()
    words, held = parse(prompts), len(videos) // 5
    target = (scores - scores[held:].mean()) / scores[held:].std()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    chance = generator_from(seed, "small reward")
    for _ in range(steps):
        rows = held + torch.randint(len(videos) - held, (32,), generator=chance)
        loss = (network(videos[rows], words[rows]) - target[rows]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), path)
    with torch.no_grad():
        told = network(videos[:held], words[:held])
    return float(torch.corrcoef(torch.stack([told, target[:held]]))[0, 1])


class SmallReward(Reward):
    """What a small network thinks of a video, about standard normal over the base model's own."""

    card: ClassVar[RewardCard] = RewardCard(
        what="A small network's guess at the small world's true score",
        dimensions=("guess",),
        differentiable=True,
        frames_needed=7,
    )
    name = "small"
    dimensions = card.dimensions

    def __init__(self, *, model: str) -> None:
        self.network = Network()
        weights = load_file(model)
        self.network.load_state_dict(weights)
        self.network.eval().requires_grad_(False)
        self.version = f"{sum(float(each.double().sum()) for each in weights.values()):.6f}"

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        check_input(self, videos, prompts, fps=fps)
        stacked = videos if isinstance(videos, Tensor) else torch.stack(list(videos))
        return {"guess": self.network(stacked.float(), parse(prompts).to(stacked.device))}
