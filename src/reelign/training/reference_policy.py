"""Which reference the objective holds the policy near, and when it moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.records.bootstrap import paired_bootstrap
from reelign.training.policy import Policy

Scores = Mapping[str, Tensor]
"""Judge and dimension -> (videos,), higher is better, of the same prompts and seeds at every look."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fixed:
    """The base, from the first step to the last."""

    name: Literal["fixed"] = "fixed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Curriculum:
    """A copy of the policy every so many steps (OnlineVPO, arXiv:2412.15159, its curriculum preference update)."""

    name: Literal["curriculum"] = "curriculum"
    every: int = 200
    """The paper's K. The margin starts again from 0 at every copy; the optimiser keeps its moments."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be at least 1, got {self.every}")


@dataclass(frozen=True, kw_only=True, slots=True)
class EMA:
    """A moving average of the policy's weights: the reference follows some 1 / (1 - decay) steps behind."""

    name: Literal["ema"] = "ema"
    decay: float = 0.99

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay must be a share in [0, 1), got {self.decay}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Gated:
    """A copy of the policy, but only where judges that training does not see agree that it got better."""

    name: Literal["gated"] = "gated"
    every: int = 50
    """Steps between two looks of the held-out judges."""
    level: float = 0.9
    """One-sided confidence, in [0.5, 1), with which each judge must have seen the policy rise."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"every must be at least 1, got {self.every}")
        if not 0.5 <= self.level < 1:
            raise ValueError(f"level must be a confidence in [0.5, 1), got {self.level}")


References = Fixed | Curriculum | EMA | Gated


def got_better(before: Scores, now: Scores, prompts: Tensor, *, level: float) -> bool:
    """Whether every judge and dimension rose, each with one-sided confidence `level`.

    Each is tested on the paired differences of the same prompts and seeds, by the paired bootstrap over prompts. A
    video that one of the two looks could not score is left out of its pair.

    Args:
        before, now: {judge and dimension: (videos,)}, the same names.
        prompts: (videos,) the prompt of each video, as a number.
        level: in [0.5, 1); at 0.5 the mean of each must lie above 0.
    Raises:
        ReelignError: no judge, or other judges than before.
    """
    if not now or now.keys() != before.keys():
        raise ReelignError(
            f"A gated reference compares the same held-out judges, before {', '.join(before) or 'none'} and now "
            f"{', '.join(now) or 'none'}.",
            "Name held-out judges under watch, the same for the whole run.",
        )
    differences = {name: now[name].double() - before[name].double() for name in now}
    if any(len(prompts[difference.isfinite()].unique()) < 2 for difference in differences.values()):
        return False  # nothing to be confident about
    return all(_low(difference, prompts, level, name) > 0 for name, difference in differences.items())


def _low(difference: Tensor, prompts: Tensor, level: float, name: str) -> float:
    """The lower end of a one-sided interval of the mean difference."""
    if level == 0.5:
        return float(difference[difference.isfinite()].mean())
    chance = generator_from(0, "gate", name)
    return paired_bootstrap(difference, prompts, level=2 * level - 1, generator=chance).low


class ReferenceMoves:
    """Moves the policy's reference between steps; a monitor, so that a checkpoint holds what it counts.

    Metrics: `reference/moves`, how often it has moved (of EMA at every step), and `reference/age`, steps since.

    Args:
        how: when it moves.
        look: of Gated, what held-out judges say of the policy (of its moving average, where one is kept), and each
            video's prompt.
    """

    def __init__(self, how: References, *, look: Callable[[Policy], tuple[Scores, Tensor]] | None = None) -> None:
        if isinstance(how, Gated) and look is None:
            raise ReelignError(
                "A gated reference moves by held-out judges, and none are named.",
                "Name them under watch, or take another reference: reference.name=curriculum.",
            )
        self.how = how
        self.look = look
        self.moves = self.moved_at = 0
        self.before: dict[str, Tensor] = {}
        """Of Gated, the scores of the reference."""

    @property
    def moving(self) -> bool:
        """Whether the policy needs a reference of its own."""
        return not isinstance(self.how, Fixed)

    def begin(self, policy: Policy) -> None:
        """Let the held-out judges look at the first reference, before the first step."""
        if isinstance(self.how, Gated) and not self.before:
            assert self.look is not None
            self.before = dict(self.look(policy)[0])

    def after_step(self, step: int, policy: Policy, metrics: dict[str, float]) -> dict[str, float]:
        match self.how:
            case Fixed():
                return {}
            case Curriculum(every=every):
                if step % every == 0:
                    self._move(policy, step)
            case EMA(decay=decay):
                self._move(policy, step, 1 - decay)
            case Gated(every=every, level=level):
                if step % every == 0:
                    assert self.look is not None
                    now, prompts = self.look(policy)
                    if got_better(self.before, now, prompts, level=level):
                        self.before = dict(now)
                        with policy.using("average"):  # which the judges looked at
                            self._move(policy, step)
        return {"reference/moves": self.moves, "reference/age": step - self.moved_at}

    def _move(self, policy: Policy, step: int, share: float = 1.0) -> None:
        policy.move_reference(share)
        self.moves += 1
        self.moved_at = step

    def verdict(self) -> str | None:
        return None

    def state_dict(self) -> dict[str, Any]:
        before = {name: scores.tolist() for name, scores in self.before.items()}
        return {"moves": self.moves, "moved_at": self.moved_at, "before": before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.moves, self.moved_at = state["moves"], state["moved_at"]
        self.before = {name: torch.tensor(scores) for name, scores in state["before"].items()}
