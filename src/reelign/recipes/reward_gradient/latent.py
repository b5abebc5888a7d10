"""A latent reward as the reward that is climbed: its gradient reaches the latents, and nothing is decoded.

Process Reward Feedback Learning (Mi et al. 2025, arXiv:2511.21541): a reward that stands on the generator's own first
blocks reads latents at any noise level, so that the steps with gradient need neither stand at the end nor end clean.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator
from reelign.generators.trunk import checkpoint_blocks
from reelign.recipes.latent_reward.feedback import check_blocks
from reelign.recipes.online.feedback import LATENT
from reelign.recipes.reward_gradient.frames import FrameChoice
from reelign.recipes.reward_gradient.scoring import RewardLoss, weights_of
from reelign.recipes.reward_gradient.settings import RewardGradientSettings
from reelign.training.latent_guide import reward_key
from reelign.training.latent_reward import LatentReward
from reelign.training.latent_reward_files import check_generator, load_latent_reward, read_shape
from reelign.training.staged_decode import DecodeSettings


@dataclass(frozen=True)
class LatentName:
    """A latent reward as the settings name it."""

    name: str
    dimensions: tuple[str, ...]


@dataclass
class LatentLoss(RewardLoss[LatentName]):
    """From latents to the loss; `model` is the reward, opened."""

    model: LatentReward

    def __call__(
        self, latents: Tensor, sigma: Tensor, conditioning: Conditioning, scale: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a micro-batch and its scores, as `of_scores`.

        Args:
            latents: (B, C, F, H, W) with their graph.
            sigma: (B,) the noise level that they stand at.
            conditioning: a row for each video.
            scale: such as one over the videos of the whole batch.
        """
        return self.of_scores(self.model(latents, sigma, conditioning), latents, scale)

    def _detached(self) -> ReelignError:
        return ReelignError(
            f"No gradient of {self.reward.name} reached the latents: it says the same of whatever it is shown.",
            "Train it first, until its accuracy on held-out pairs is above chance: reelign latent-reward train",
        )


def folder_of(settings: RewardGradientSettings) -> Path | None:
    """The latent reward's folder; None where the reward reads pixels."""
    name = settings.reward.name
    return Path(name.removeprefix(LATENT)) if name.startswith(LATENT) else None


def check_latent(folder: Path, generator: Generator, settings: RewardGradientSettings) -> LatentName:
    """Refuse what can be told without weights; the reward's name.

    Raises:
        ReelignError: no latent reward, one of another model, one that would train along, settings of pixels, or levels
            that it does not know.
    """
    shape = read_shape(folder)
    check_generator(folder, generator)
    name = settings.reward.name
    if settings.reward.options:
        raise ReelignError(
            f"{name} takes no options, and reward.options has {', '.join(settings.reward.options)}.",
            "Leave reward.options out.",
        )
    if settings.frames != FrameChoice() or settings.decode != DecodeSettings():
        raise ReelignError(
            f"{name} reads latents, and `frames` or `decode` says which pixels are to be made.",
            "Leave both sections out.",
        )
    check_blocks(folder, settings)
    if shape.levels == "clean" and settings.gradient.name == "noisy":
        raise ReelignError(
            f"{name} was trained on clean latents, and gradient.name=noisy shows it noisy ones.",
            "Take another gradient.name, such as one_step, or train the reward with levels=noisy.",
        )
    reward = LatentName(name, shape.dimensions)
    weights_of(settings.objective, reward)
    return reward


def open_latent(folder: Path, generator: Generator, settings: RewardGradientSettings) -> LatentLoss:
    """The loss of a run, over the generator as it is before the policy's adapter: its blocks never carry that.

    Raises:
        ReelignError: as `check_latent`, or weights that do not fit.
    """
    reward = check_latent(folder, generator, settings)
    model = load_latent_reward(folder, generator)
    if settings.reward.checkpointing:
        checkpoint_blocks(model.trunk)
    return LatentLoss(reward, settings.objective, weights_of(settings.objective, reward), model)


def latent_content(settings: RewardGradientSettings) -> dict[str, str]:
    """What of a latent reward decides a run: a folder may be trained again. Empty for pixels."""
    folder = folder_of(settings)
    return {} if folder is None else {"latent_reward": reward_key(folder)}
