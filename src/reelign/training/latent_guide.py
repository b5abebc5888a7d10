"""Sampling guided by a latent reward, with weights that are chosen at sampling time."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from reelign.diffusion.guidance import GuidanceLog, RewardGuidance, Weights, check_dimensions, steered
from reelign.diffusion.samplers import VelocityFunction
from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator
from reelign.generators.trunk import checkpoint_blocks
from reelign.training.latent_reward import LatentReward
from reelign.training.latent_reward_files import WEIGHTS, load_latent_reward


@dataclass(frozen=True, kw_only=True, slots=True)
class GuideSettings:
    """Which latent reward guides a sampler, and towards what."""

    latent_reward: str = ""
    """The folder that `reelign latent-reward train` printed, or its run's name in the workspace."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Weight of each dimension, of any sign; none at all leaves sampling as it is. A reward's unit is one standard
    deviation over the videos it was trained on."""
    guidance: RewardGuidance = field(default_factory=RewardGuidance)
    activation_checkpointing: bool = False
    """Run the reward's blocks again in the backward pass: less memory, the same gradients, and half as much again of
    what guidance costs."""

    def __post_init__(self) -> None:
        if self.weights and not self.latent_reward:
            raise ValueError("latent_reward must name a latent reward for these weights, got ''")
        for name, weight in self.weights.items():
            if not math.isfinite(weight):
                raise ValueError(f"weights must be finite numbers, got {name}={weight}")

    @property
    def active(self) -> bool:
        return any(self.weights.values())


class LatentGuide:
    """A latent reward with weights, as `Generator.sample` takes it.

    Args:
        reward: of the generator that samples.
        weights: of its dimensions; (B,) tensors weigh each video of the batch by itself.
        settings: when it guides and how hard at most.
    Raises:
        ReelignError: a weight of a dimension that the reward lacks.
    """

    def __init__(self, reward: LatentReward, weights: Weights, settings: RewardGuidance | None = None) -> None:
        check_dimensions(weights, reward.settings.dimensions)
        self.reward = reward
        self.weights = {
            name: weight.to(reward.device) if isinstance(weight, Tensor) else weight for name, weight in weights.items()
        }
        self.settings = settings or RewardGuidance()
        self.log = GuidanceLog()
        """Of the last sampling."""

    def __call__(self, velocity: VelocityFunction, sigmas: Tensor, conditioning: Conditioning) -> VelocityFunction:
        self.log = GuidanceLog()
        return steered(
            velocity,
            functools.partial(self.reward, conditioning=conditioning.to(self.reward.device)),
            self.weights,
            sigmas,
            self.settings,
            log=self.log,
            largest=self.reward.settings.largest,
        )


def open_guide(settings: GuideSettings, generator: Generator) -> LatentGuide | None:
    """The guide that the settings ask for; None where they weigh nothing."""
    if not settings.active:
        return None
    reward = load_latent_reward(settings.latent_reward, generator)
    if settings.activation_checkpointing:
        checkpoint_blocks(reward.trunk)
    return LatentGuide(reward, settings.weights, settings.guidance)


def guide_content(settings: GuideSettings) -> dict[str, Any]:
    """What of a guide decides a video, for its record; empty where it weighs nothing."""
    if not settings.active:
        return {}
    key = reward_key(settings.latent_reward)
    weights = {name: float(settings.weights[name]) for name in sorted(settings.weights)}
    return {"guide": {"latent_reward": key, "weights": weights, **asdict(settings.guidance)}}


def reward_key(folder: str | Path) -> str:
    """12 hex digits that change with a saved reward's weights.

    Raises:
        ReelignError: there is no latent reward.
    """
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise ReelignError(
            f"There is no latent reward in {folder}.",
            "Give the folder that reelign latent-reward train printed, or its run's name.",
        )
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
