"""Diffusion-DPO and Flow-DPO on per-video errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from reelign.objectives.beta import Reduction, Schedule


@dataclass(frozen=True, kw_only=True, slots=True)
class DPO:
    """Settings of `dpo_loss`."""

    name: Literal["dpo"] = "dpo"

    beta: float = 500.0
    """Pull towards the reference; larger stays closer. Multiplies a squared error averaged over all elements.

    500 is Flow-DPO's own (arXiv:2501.13918, App. I, where 100 to 8000 were tried). Fine-tuning moves a video's error
    by 10⁻³ to 10⁻² against its reference, so that β/2·margin is 0.25 to 2.5: in the slope of σ, neither flat nor
    saturated. Epsilon models, whose errors are (1 - sigma)² times smaller, take 2000 to 5000 (arXiv:2311.12908). Where
    margins are of another size, start near 1 / their standard deviation, and lower the learning rate as β grows."""

    schedule: Schedule = "constant"
    """`one_minus_sigma_squared` multiplies β with (1 - sigma)²; flow models only."""
    reduction: Reduction = "mean"
    """How the errors are reduced that β was chosen for; `sum` is converted exactly."""
    target_factor: float | None = None
    """Let β move so that the mean gradient factor σ(-margin) stays here, in (0, 0.5); None keeps β."""

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise ValueError(f"beta must be positive, got {self.beta}")
        if self.target_factor is not None and not 0 < self.target_factor < 0.5:
            raise ValueError(f"target_factor must lie between 0 and 0.5, got {self.target_factor}")

    def __call__(self, error: Tensor, ref_error: Tensor) -> Tensor:
        return dpo_loss(error, ref_error, beta=self.beta)


def dpo_loss(error: Tensor, ref_error: Tensor, *, beta: float | Tensor) -> Tensor:
    """Diffusion-DPO loss of each pair.

    Wallace et al. 2023 (arXiv:2311.12908), eq. 14, with T·ω(λ) folded into `beta` and the ½ of the authors' code; on
    velocity errors it is Flow-DPO with constant β (Liu et al. 2025, arXiv:2501.13918, eq. 9):

        -log σ( -β/2 · [ (e_chosen - e_chosen_ref) - (e_rejected - e_rejected_ref) ] )

    Errors over a mask (`velocity_errors(mask=...)`) make it DPO on a space-time region, as in LocalDPO
    (arXiv:2601.04068); `segment_dpo_loss` takes several segments with labels of their own.

    Args:
        error: (pairs, 2) the policy's mean squared error of its native target; column 0 chosen, column 1 rejected.
        ref_error: (pairs, 2) the same for the reference, at the same noise and sigma.
        beta: strength of the pull to the reference, > 0, in units of 1/error under the mean reduction
            (for errors summed over D elements it is β/D); or (pairs,) one for each.
    Returns:
        (pairs,) loss; log 2 where policy and reference agree.
    Raises:
        ValueError: the errors differ in shape or do not come in pairs.
    """
    margin = implicit_margin(error, ref_error)
    return -F.logsigmoid(0.5 * beta * margin)


def implicit_margin(error: Tensor, ref_error: Tensor) -> Tensor:
    """How much more the policy improved on the chosen video than on the rejected one, in units of error.

    `(e_rejected - e_rejected_ref) - (e_chosen - e_chosen_ref)`, (pairs,); positive where the policy ranks the pair as
    the judges did. Its mean sign is the implicit accuracy.
    """
    if error.shape != ref_error.shape or error.ndim != 2 or error.shape[1] != 2:
        raise ValueError(f"errors must both be (pairs, 2), got {tuple(error.shape)} and {tuple(ref_error.shape)}")
    chosen, rejected = (error - ref_error).unbind(dim=1)
    return rejected - chosen


def gradient_factor(error: Tensor, ref_error: Tensor, *, beta: float | Tensor) -> Tensor:
    """`σ(-β/2·margin)`, (pairs,) in (0, 1): what multiplies each pair's gradient; ½ at the reference."""
    return (-0.5 * beta * implicit_margin(error, ref_error)).sigmoid()


def implicit_accuracy(error: Tensor, ref_error: Tensor) -> float:
    """Share of pairs that policy against reference rank as the judges did.

    At the reference every margin is 0 and the policy knows nothing: that is one half, not none.
    """
    margin = implicit_margin(error, ref_error)
    return float((margin > 0).float().mean() + 0.5 * (margin == 0).float().mean())
