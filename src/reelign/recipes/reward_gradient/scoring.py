"""A reward as a loss: opened and checked, weighted, with its failures counted and its gradient looked at."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
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
from reelign.rewards.failures import Failures, scored
from reelign.rewards.judging import promised
from reelign.rewards.opening import card_of, check_reward, open_reward
from reelign.rewards.table import REWARDS
from reelign.rewards.transforms import weighted_sum
from reelign.training import Ranks

log = logging.getLogger(__name__)
URLS = ("http://", "https://")
"""Begin the name of a reward that is served elsewhere: numbers come back from there and no gradient."""


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
    """Refuse, before anything is opened, a reward whose card says that it has no gradient, and one that is not there.

    Raises:
        ReelignError: it, or a part of a composed one, is not differentiable, is served elsewhere, or is unknown.
    """
    if not choice.name.startswith(URLS):
        check_reward(choice.name, **choice.options)
    _check_card(choice.name)
    for part in choice.options.get("parts", ()) if choice.name == "composed" else ():
        name = part.get("reward") if isinstance(part, Mapping) else None
        if not isinstance(name, str):  # open already, or told by what opens it
            continue
        if part.get("codec_roundtrip"):
            raise ReelignError(
                f"codec_roundtrip lets no gradient through, and the part {name!r} of the reward has it.",
                "Leave codec_roundtrip out of the parts.",
            )
        _check_card(name)


def _check_card(name: str) -> None:
    """Of a reward by its name; one outside the table is asked when it is open."""
    if name.startswith(URLS) or (name in REWARDS and not card_of(name).differentiable):
        raise _not_differentiable(name)


def open_choice(choice: RewardChoice) -> Reward:
    """The reward that is maximised, opened.

    Raises:
        ReelignError: it is not differentiable, or cannot be opened.
    """
    check_choice(choice)
    reward = open_reward(choice.name, **choice.options)
    if reward.relative:
        raise ReelignError(
            f"The scores of the reward {reward.name!r} depend on the other videos of a batch, and over a group their "
            "gradient is 0.",
            "Normalise its parts by constants, normalise: {DIMENSION: [mean, std]}, and not by group.",
        )
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
    """Of all ranks."""
    reached: bool = field(default=False, kw_only=True)
    """Whether a gradient has come back in this run; until one has, every batch is looked at."""
    _came: bool = field(default=False, init=False)
    """Whether one came back to a video of this rank."""
    _wanting: bool = field(default=False, init=False)
    """Whether a video of this rank had something to gain, in the batch under way."""

    def of_scores(self, scores: dict[str, Tensor], seen: Tensor, scale: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a micro-batch, summed over its videos and times `scale`, and its scores {dimension: (videos,)}.

        Videos without a score are left out: neither value nor gradient of theirs goes in.

        Args:
            scores: {dimension: (videos,)} with their graph.
            seen: what the reward read, (B, ...) in five dimensions.
            scale: such as one over the videos of the whole batch.
        """
        reward = weighted_sum(scores, self.weights)
        there = self._scored(self._counted(scores))
        if not reward.requires_grad:
            raise self._detached()
        losses = self.objective(reward[there])
        # A failed video may have no finite derivative either, and 0 · NaN is NaN. Scores may be on the reward's device.
        seen.register_hook(lambda gradient: torch.where(there.to(gradient.device).view(-1, 1, 1, 1, 1), gradient, 0.0))
        if not self.reached and len(losses):
            self._look(losses, self._below_caps(scores)[there], seen)
        return scale * losses.sum(), {name: values.detach().float() for name, values in scores.items()}

    def end_batch(self, scores: Mapping[str, Tensor], names: Sequence[str], ranks: Ranks) -> None:
        """Count and name what had no score, and see that a gradient came back, before any weight is moved.

        Args:
            scores: {dimension: (videos,)} of the batch of all ranks.
            names: of its videos.
        Raises:
            ReelignError: nothing was scored since the run began, or videos that had something to gain got no gradient.
        """
        known = set(self.failures.samples)
        self.failures.add(self._counted(scores), names)
        for name in self.failures.samples:
            if name not in known and ranks.main:
                log.warning("the reward %s could not score %s; it is left out", self.reward.name, name)
        if self.reached:
            return
        if len(self.failures) >= self.failures.seen:
            raise ReelignError(
                f"The reward {self.reward.name!r} could not score a single video of the first batch: {self.failures}.",
                "Look at these videos (reelign sample), or try the reward on a file: reelign rewards score.",
            )
        self.reached, wanting = ranks.any(self._came, self._wanting)
        self._wanting = False
        if wanting and not self.reached:
            raise self._detached()

    def _counted(self, scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those that go into the sum; a NaN in another does no harm."""
        return {name: scores[name].detach() for name, weight in self.weights.items() if weight}

    def _scored(self, scores: Mapping[str, Tensor]) -> Tensor:
        """(videos,) bool: which have all of these."""
        return scored(scores)

    def _below_caps(self, scores: Mapping[str, Tensor]) -> Tensor:
        """(videos,) bool: of which a part of a composed reward is below its own cap, or has none."""
        caps = self.reward.caps if isinstance(self.reward, Composed) else {}
        parts = [name for name in scores if name != OVERALL and (OVERALL in self.weights or self.weights.get(name))]
        below = [scores[name].detach() < caps.get(name, math.inf) for name in parts or self._counted(scores)]
        return torch.stack(below).any(dim=0)

    def _look(self, losses: Tensor, below: Tensor, seen: Tensor) -> None:
        """Whether a gradient comes back to any of these videos, and whether one should."""
        (gradient,) = torch.autograd.grad(losses.sum(), seen, retain_graph=True, allow_unused=True)
        if gradient is None:
            raise self._detached()
        finite = gradient.flatten(1).isfinite().all(dim=1)
        if not finite.any():
            raise ReelignError(
                f"The reward {self.reward.name!r} scored videos, and its gradient is finite on none of them: a square "
                "root or a logarithm of 0 does that.",
                "Keep its derivative finite, such as by (x + 1e-12).sqrt().",
            )
        self._came = self._came or bool(gradient[finite].any())
        # At a cap a video rightly has none.
        gains = below if self.objective.cap is None else below & (losses.detach() > 0)
        self._wanting = self._wanting or bool(gains.any())

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
        self, video: Tensor, prompts: list[str], chosen: list[int] | None, clip: int, scale: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a micro-batch and its scores, as `of_scores`.

        Args:
            video: (B, F, 3, H, W) with its graph.
            prompts: of each video.
            chosen: which frames of the clip these are; None is all.
            clip: how many frames the whole clip has.
            scale: such as one over the videos of the whole batch.
        """
        return self.of_scores(self._scores(video, prompts, chosen, clip), video, scale)

    def _scores(self, video: Tensor, prompts: list[str], chosen: list[int] | None, clip: int) -> dict[str, Tensor]:
        fps = frame_rate(chosen, self.fps) if chosen is not None and self.frames.count is not None else self.fps
        prompts = [str(prompt) for prompt in prompts]  # a reward reads texts, and may know them by heart
        if not self.frames.attenuation:
            return promised(self.reward, self.reward.score(video, prompts, fps=fps), len(prompts))
        count = video.shape[1]
        each = [prompt for prompt in prompts for _ in range(count)]
        singly = promised(self.reward, self.reward.score(video.flatten(0, 1)[:, None], each, fps=fps), len(each))
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
