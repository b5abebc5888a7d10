"""A reward as a loss: opened and checked, weighted, with its failures counted and its gradient looked at."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.objectives.reward_gradient import RewardGradient, attenuated_mean
from reelign.recipes.reward_gradient.frames import FrameChoice, frame_rate, places_in_clip
from reelign.recipes.reward_gradient.settings import RewardChoice
from reelign.rewards.base import Reward
from reelign.rewards.compose import OVERALL, Composed
from reelign.rewards.failures import Failures
from reelign.rewards.opening import card_of, open_reward
from reelign.rewards.table import REWARDS
from reelign.rewards.transforms import weighted_sum

log = logging.getLogger(__name__)


class Scores(Protocol):
    """What every reward says of itself, on pixels or on latents."""

    @property
    def name(self) -> str: ...

    @property
    def dimensions(self) -> tuple[str, ...]: ...


R = TypeVar("R", bound=Scores)


def differentiable_rewards() -> list[str]:
    """Names of the table whose gradients reach the videos."""
    return [name for name in REWARDS if card_of(name).differentiable]


def check_choice(choice: RewardChoice) -> None:
    """Refuse, before anything is opened, a reward whose card says that it has no gradient."""
    if choice.name in REWARDS and not card_of(choice.name).differentiable:
        raise _not_differentiable(choice.name)


def open_choice(choice: RewardChoice) -> Reward:
    """The reward that is maximised, opened.

    Raises:
        ReelignError: it is not differentiable, or cannot be opened.
    """
    check_choice(choice)
    reward = open_reward(choice.name, **choice.options)
    if not reward.differentiable:
        parts = [part for _, part in reward.parts] if isinstance(reward, Composed) else [reward]
        raise _not_differentiable(next(part.name for part in parts if not part.differentiable))
    if choice.checkpointing:
        checkpoint_models(reward)
    return reward


def _not_differentiable(name: str) -> ReelignError:
    return ReelignError(
        f"The reward {name!r} is not differentiable: no gradient reaches the videos.",
        f"Those that are: {', '.join(differentiable_rewards())}. Or learn from it without its gradient, stream=online.",
    )


def weights_of(objective: RewardGradient, reward: Scores) -> Mapping[str, float]:
    """The weights of a reward's dimensions in what is maximised.

    Raises:
        ReelignError: a dimension that it does not score, or several without a word on which.
    """
    known = ", ".join(reward.dimensions)
    for name in objective.weights:
        if name not in reward.dimensions:
            raise ReelignError(
                f"objective.weights names {name!r}, which {reward.name!r} does not score.", f"It scores {known}."
            )
    if objective.weights:
        return objective.weights
    if OVERALL in reward.dimensions:
        return {OVERALL: 1.0}
    if len(reward.dimensions) == 1:
        return {reward.dimensions[0]: 1.0}
    raise ReelignError(
        f"The reward {reward.name!r} scores {known}, and objective.weights says nothing of them.",
        f"Weigh them, as in objective.weights.{reward.dimensions[0]}=1.",
    )


@dataclass
class RewardLoss(Generic[R]):
    """From scores to the loss that is trained, and what was seen on the way.

    Args:
        reward: the open reward.
        objective: cap and scale.
        weights: of its dimensions (`weights_of`).
    """

    reward: R
    objective: RewardGradient
    weights: Mapping[str, float]
    failures: Failures = field(default_factory=Failures, kw_only=True)
    looked: bool = field(default=False, kw_only=True)
    """Whether a first batch has shown that a gradient comes back."""

    def of_scores(
        self, scores: dict[str, Tensor], seen: Tensor, names: list[str], scale: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a micro-batch, summed over its videos and times `scale`, and its scores {dimension: (videos,)}.

        Videos without a score are counted, named and left out: neither value nor gradient of theirs goes in.

        Args:
            scores: {dimension: (videos,)} with their graph.
            seen: what the reward read, (B, ...) in five dimensions.
            names: of each video.
            scale: such as one over the videos of the whole batch.
        """
        reward = weighted_sum(scores, self.weights)
        there = self._count({name: scores[name] for name in self.weights if self.weights[name]}, names)
        if not reward.requires_grad:
            raise self._detached()
        losses = self.objective(reward[there])
        # A failed video may have no finite derivative either, and 0 · NaN is NaN.
        seen.register_hook(lambda gradient: torch.where(there.view(-1, 1, 1, 1, 1), gradient, 0.0))
        if not self.looked:
            self._look(losses, seen)
        return scale * losses.sum(), {name: values.detach().float() for name, values in scores.items()}

    def _count(self, scores: dict[str, Tensor], names: list[str]) -> Tensor:
        """Which videos have a score; a newly failed one is told."""
        known = set(self.failures.samples)
        there = self.failures.add({name: values.detach() for name, values in scores.items()}, names)
        for name in self.failures.samples:
            if name not in known:
                log.warning("the reward %s could not score %s; it is left out", self.reward.name, name)
        return there

    def _look(self, losses: Tensor, seen: Tensor) -> None:
        """Whether a gradient comes back to every video that still has something to gain; asked of the first batch."""
        if not len(losses):
            raise ReelignError(
                f"The reward {self.reward.name!r} could not score a single video of the first batch: {self.failures}.",
                "Look at these videos (reelign sample), or try the reward on a file: reelign rewards score.",
            )
        (gradient,) = torch.autograd.grad(losses.sum(), seen, retain_graph=True, allow_unused=True)
        # At its cap a video rightly has none.
        wanting = self.objective.cap is None or bool((losses > 0).any())
        if gradient is None or (wanting and not bool(gradient.any())):
            raise self._detached()
        self.looked = True

    def _detached(self) -> ReelignError:
        return ReelignError(
            f"No gradient of the reward {self.reward.name!r} reached the pixels: somewhere it detaches what it is "
            "given, or rounds it.",
            f"Those known to pass it on: {', '.join(differentiable_rewards())}.",
        )


@dataclass
class PixelLoss(RewardLoss[Reward]):
    """From pixels to the loss.

    Args:
        frames: for the attenuation.
        fps: of the whole clips.
    """

    frames: FrameChoice
    fps: float

    def __post_init__(self) -> None:
        if self.frames.attenuation and self.reward.frames_needed > 1:
            raise ReelignError(
                f"frames.attenuation scores frames one by one, and {self.reward.name!r} needs "
                f"{self.reward.frames_needed} at a time.",
                "Set it to 0, or choose a reward of single frames.",
            )

    def __call__(
        self, video: Tensor, prompts: list[str], names: list[str], chosen: list[int] | None, clip: int, scale: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a micro-batch and its scores, as `of_scores`.

        Args:
            video: (B, F, 3, H, W) with its graph.
            prompts, names: of each video.
            chosen: which frames of the clip these are; None is all.
            clip: how many frames the whole clip has.
            scale: such as one over the videos of the whole batch.
        """
        return self.of_scores(self._scores(video, prompts, chosen, clip), video, names, scale)

    def _scores(self, video: Tensor, prompts: list[str], chosen: list[int] | None, clip: int) -> dict[str, Tensor]:
        fps = frame_rate(chosen, self.fps) if chosen is not None and self.frames.count is not None else self.fps
        prompts = [str(prompt) for prompt in prompts]  # a reward reads texts, and may know them by heart
        if not self.frames.attenuation:
            return self.reward.score(video, prompts, fps=fps)
        count = video.shape[1]
        singly = self.reward.score(
            video.flatten(0, 1)[:, None], [prompt for prompt in prompts for _ in range(count)], fps=fps
        )
        places = places_in_clip(list(range(clip)) if chosen is None else chosen, clip)
        return {
            name: attenuated_mean(values.unflatten(0, (-1, count)), places.to(values), rate=self.frames.attenuation)
            for name, values in singly.items()
        }


def checkpoint_models(reward: Reward) -> None:
    """Activation checkpointing in every transformers model of a reward.

    Raises:
        ReelignError: it has none, or one with dropout, which checkpointing would switch on.
    """
    parts = [part for _, part in reward.parts] if isinstance(reward, Composed) else [reward]
    held = [module for part in parts for module in modules_of(part)]
    models: list[Any] = [each for module in held for each in module.modules() if _is_whole(each)]
    if not models:
        raise ReelignError(
            f"The reward {reward.name!r} holds no model that can run its blocks again.",
            "Set reward.checkpointing=false.",
        )
    for model in models:
        drops = [each for each in model.modules() if isinstance(each, nn.Dropout) and each.p > 0]
        rates = [value for name, value in model.config.to_dict().items() if "dropout" in name]
        if drops or any(isinstance(value, float) and value > 0 for value in rates):
            raise ReelignError(
                f"The model of {reward.name!r} has dropout, which activation checkpointing would switch on.",
                "Set reward.checkpointing=false.",
            )
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()  # transformers' layers look at this flag


def modules_of(owner: object, depth: int = 2) -> list[nn.Module]:
    """The networks that an object holds, itself or in a part of its own such as a tower."""
    found: list[nn.Module] = []
    for each in getattr(owner, "__dict__", {}).values():
        if isinstance(each, nn.Module):
            found.append(each)
        elif depth > 1:
            found += modules_of(each, depth - 1)
    return found


def _is_whole(model: nn.Module) -> bool:
    return bool(getattr(model, "supports_gradient_checkpointing", False)) and hasattr(model, "config")
