"""Several rewards as one: each opened once, each video handed over once, one weighted number beside the parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal

from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.base import Reward, RewardCard, Videos, check_input
from reelign.rewards.codec import CRF, Compressed
from reelign.rewards.opening import open_reward
from reelign.rewards.transforms import capped, group_normalised, weighted_sum, z_normalised

OVERALL = "overall"


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One reward's share."""

    reward: str | Reward
    """As for `open_reward`, or one that is open."""
    weights: Mapping[str, float]
    """Of its dimensions in the sum; negative where less is better. What has none is left out."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the reward takes, such as `model`."""
    name: str = ""
    """Its scores appear as `name.dimension`; '' is the reward's own name."""
    normalise: Mapping[str, tuple[float, float]] | Literal["group"] | None = None
    """{dimension: [mean, std]}, or 'group': by the mean and spread of the videos of the same prompt in a batch, which
    must hold the whole group. Before the cap and the weights."""
    cap: float | None = None
    """The most that a dimension may count, after it is normalised."""
    codec_roundtrip: bool = False
    """Through H.264 and back first, for rewards trained on compressed clips."""
    crf: int = CRF


class Composed(Reward):
    """The weighted sum of rewards as `overall`, and what goes into it as `part.dimension`.

    A sample that a part fails on is NaN there and in `overall`.
    """

    card = RewardCard(
        what="Several rewards, normalised, capped and weighted: parts=[{reward: NAME, weights: {DIMENSION: 1}}]",
        dimensions=(OVERALL,),
        differentiable=True,
        frames_needed=1,
    )

    def __init__(self, *, parts: Sequence[Part | Mapping[str, Any]], name: str = "composed") -> None:
        """Open what is not open, each reward with the same options once.

        Raises:
            ReelignError: no part, two of one name, an unknown key, dimension or reward.
        """
        opened: dict[str, Reward] = {}
        self.parts = [(part, _opened(part, opened)) for part in map(_part, parts)]
        names = [part.name or reward.name for part, reward in self.parts]
        if not names or len(set(names)) < len(names):
            raise ReelignError(
                f"A composed reward needs parts of different names, got {', '.join(names) or 'none'}.",
                "Give each part a `name`.",
            )
        for part, reward in self.parts:
            _check_dimensions(part, reward)
        self.name = name
        self.weights = {
            f"{called}.{dimension}": weight
            for called, (part, _) in zip(names, self.parts, strict=True)
            for dimension, weight in part.weights.items()
        }
        self.dimensions = (OVERALL, *self.weights)
        self.caps = {
            f"{called}.{dimension}": part.cap
            for called, (part, _) in zip(names, self.parts, strict=True)
            for dimension in part.weights
            if part.cap is not None
        }
        """The most that a score may come to, of those that have one: a video there has no gradient."""
        self.relative = any(part.normalise == "group" or reward.relative for part, reward in self.parts)
        self.version = "; ".join(
            f"{called} {reward.version} {dict(part.weights)} {part.normalise} {part.cap}"
            for called, (part, reward) in zip(names, self.parts, strict=True)
        )

    @property
    def differentiable(self) -> bool:
        return all(reward.differentiable for _, reward in self.parts)

    @property
    def frames_needed(self) -> int:
        return max(reward.frames_needed for _, reward in self.parts)

    def frames_read(self, count: int) -> None:
        """All: what one part leaves out another may read.

        Raises:
            ReelignError: a part cannot read a video of so many frames.
        """
        for _, reward in self.parts:
            reward.frames_read(count)

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        """As `Reward.score`. A reward in two parts scores once, and a codec that two parts share runs once."""
        check_input(self, videos, prompts, fps=fps)
        raw: dict[int, dict[str, Tensor]] = {}
        compressed: dict[int, Videos] = {}
        found: dict[str, Tensor] = {}
        for part, reward in self.parts:
            if id(reward) not in raw:
                raw[id(reward)] = _scores(reward, videos, prompts, fps, compressed)
            for dimension in part.weights:
                name = f"{part.name or reward.name}.{dimension}"
                found[name] = capped(_normalised(part, dimension, raw[id(reward)][dimension], prompts), part.cap)
        first = next(iter(found.values())).device
        found = {name: values.to(first) for name, values in found.items()}
        return {OVERALL: weighted_sum(found, self.weights), **found}


def _scores(
    reward: Reward, videos: Videos, prompts: Sequence[str], fps: float | None, compressed: dict[int, Videos]
) -> dict[str, Tensor]:
    if not isinstance(reward, Compressed):
        return reward.score(videos, prompts, fps=fps)
    if reward.crf not in compressed:
        compressed[reward.crf] = reward.compressed(videos, fps)
    return reward.reward.score(compressed[reward.crf], prompts, fps=fps)


def _normalised(part: Part, dimension: str, scores: Tensor, prompts: Sequence[str]) -> Tensor:
    if part.normalise is None:
        return scores
    if part.normalise == "group":
        return group_normalised(scores, prompts)
    mean, std = part.normalise[dimension]
    return z_normalised(scores, mean=mean, std=std)


def _part(given: Part | Mapping[str, Any]) -> Part:
    """A part from Python or from YAML."""
    if isinstance(given, Part):
        return given
    known = [each.name for each in dataclasses.fields(Part)]
    for key in given:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ReelignError(f"A part of a composed reward has no {key!r}.", f"{hint}It has {', '.join(known)}.")
    if "reward" not in given or not isinstance(given.get("weights"), Mapping):
        raise ReelignError(
            f"The part {dict(given)} lacks its reward or weights.", "Give {reward: NAME, weights: {...}}."
        )
    return Part(**given)


def _opened(part: Part, opened: dict[str, Reward]) -> Reward:
    if isinstance(part.reward, Reward):
        key, reward = f"{id(part.reward)}", part.reward
    else:
        key = f"{part.reward} {sorted(part.options.items())}"
        reward = opened[key] if key in opened else open_reward(part.reward, **part.options)
    reward = opened.setdefault(key, reward)
    if not part.codec_roundtrip:
        return reward
    return opened.setdefault(f"{key} at crf {part.crf}", Compressed(reward, crf=part.crf))


def _check_dimensions(part: Part, reward: Reward) -> None:
    constants = part.normalise if isinstance(part.normalise, Mapping) else {}
    unknown = [name for name in (*part.weights, *constants) if name not in reward.dimensions]
    if unknown or not part.weights:
        what = f"has no dimension {unknown[0]!r}" if unknown else "has no weight"
        raise ReelignError(f"The reward {reward.name!r} {what}.", f"Its dimensions are {', '.join(reward.dimensions)}.")
    for name, weight in part.weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            raise ReelignError(f"The weight of {reward.name}.{name} is {weight!r}.", "Give a number.")
    if part.normalise is None or part.normalise == "group":
        return
    well = all(isinstance(pair, Sequence) and len(pair) == 2 for pair in constants.values())
    if set(constants) != set(part.weights) or not well:
        raise ReelignError(
            f"The part {reward.name!r} cannot be normalised by {part.normalise!r}.",
            "Give 'group', or {dimension: [mean, std]} for each dimension with a weight.",
        )
