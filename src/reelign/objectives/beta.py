"""β: how strongly an objective pulls towards the reference, what it multiplies, and how it may move."""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal

from torch import Tensor

from reelign.errors import ReelignError

Schedule = Literal["constant", "one_minus_sigma_squared"]
Reduction = Literal["mean", "sum"]

PLAUSIBLE = (1.0, 1e5)
"""β in use under the mean reduction: published runs on images and video lie between 100 and 8000."""


def mean_beta(beta: float, *, reduction: Reduction, elements: int) -> float:
    """The β that multiplies a MEAN squared error, from one that was meant for the given reduction.

    A sum over D elements is D means, so β_sum·sum = β_sum·D·mean: β_sum = β_mean / D exactly.

    Args:
        beta: > 0, in units of 1/error under `reduction`.
        reduction: how the errors were reduced that `beta` was chosen for.
        elements: D, of one video's latents (C·F·H·W).
    Warns:
        UserWarning: the result is far from every β in use, as when one reduction's β is given for the other. (The
            "500" of Flow-DPO's appendix stands beside a sum; so read it would be 5e8 here for D = 10⁶, and nothing
            would be learnt. It is a mean's.)
    """
    found = beta * elements if reduction == "sum" else beta
    low, high = PLAUSIBLE
    if not low <= found <= high:
        other = "mean" if reduction == "sum" else "sum"
        meant = f"{beta:g}" if reduction == "sum" else f"{beta * elements:g}"
        warnings.warn(
            f"beta = {beta:g} with reduction={reduction} over {elements} elements is {found:g} on the mean error, "
            f"outside {low:g} to {high:g}; with reduction={other} it would be {meant}. Check which one was meant.",
            stacklevel=2,
        )
    return found


def beta_at(beta: float, sigma: Tensor, schedule: Schedule) -> float | Tensor:
    """β at noise levels sigma (B,): the constant, or (B,) `β·(1 - sigma)²`.

    The derivation of Flow-DPO (Liu et al. 2025, arXiv:2501.13918, sec. 4) gives β·(1 - sigma)², since a noise error is
    (1 - sigma)² times the velocity error; its authors then recommend the constant, because the pull to the reference
    vanishes as sigma nears 1. For uniform sigma the mean of (1 - sigma)² is 1/3: compare the two at equal distance
    from the reference, not at equal β.
    """
    return beta if schedule == "constant" else beta * (1 - sigma).square()


def check_schedule(schedule: Schedule, prediction: str) -> None:
    """Refuse the schedule on anything but a flow model (`prediction` 'flow')."""
    if schedule != "constant" and prediction != "flow":
        raise ReelignError(
            f"schedule={schedule} is for flow models; the error of this {prediction} model carries its own weight over "
            "sigma already (an epsilon model's is (1 - sigma)²), and it would count twice.",
            "Leave objective.schedule at constant.",
        )


class AutoBeta:
    """β that holds the batch's mean gradient factor σ(-margin) at a target.

    The factor is what each pair's gradient is multiplied with: 1/2 at the reference, near 0 where the pairs are
    ranked with room to spare and only the tail still teaches. Above the target β rises (the same errors count for
    more), below it falls:

        log β ← log β + rate·(factor - target),   kept within [initial / span, initial·span]

    One number is the whole state, so a resumed run goes on with it exactly.
    """

    def __init__(self, beta: float, *, target: float, rate: float = 0.1, span: float = 100.0) -> None:
        self.target = target
        self.rate = rate
        self.bounds = (math.log(beta / span), math.log(beta * span))
        self._log_beta = math.log(beta)

    @property
    def beta(self) -> float:
        return math.exp(self._log_beta)

    def update(self, factor: float) -> None:
        """Take the mean factor of one optimiser step's whole batch; one that is not finite changes nothing."""
        if math.isfinite(factor):
            low, high = self.bounds
            self._log_beta = min(max(self._log_beta + self.rate * (factor - self.target), low), high)

    def state_dict(self) -> dict[str, Any]:
        return {"log_beta": self._log_beta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._log_beta = state["log_beta"]
