"""Diffusion-DPO and Flow-DPO on per-video errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class DPO:
    """Settings of `dpo_loss`."""

    name: Literal["dpo"] = "dpo"

    beta: float = 500.0
    """Pull towards the reference; larger stays closer. Multiplies a squared error averaged over all elements."""

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise ValueError(f"beta must be positive, got {self.beta}")

    def __call__(self, error: Tensor, ref_error: Tensor) -> Tensor:
        return dpo_loss(error, ref_error, beta=self.beta)


def dpo_loss(error: Tensor, ref_error: Tensor, *, beta: float) -> Tensor:
    """Diffusion-DPO loss of each pair.

    Wallace et al. 2023 (arXiv:2311.12908), eq. 14, with T·ω(λ) folded into `beta` and the ½ of the authors' code; on
    velocity errors it is Flow-DPO with constant β (Liu et al. 2025, arXiv:2501.13918, eq. 9):

        -log σ( -β/2 · [ (e_chosen - e_chosen_ref) - (e_rejected - e_rejected_ref) ] )

    Args:
        error: (pairs, 2) the policy's mean squared error of its native target; column 0 chosen, column 1 rejected.
        ref_error: (pairs, 2) the same for the reference, at the same noise and sigma.
        beta: strength of the pull to the reference, > 0, in units of 1/error under the mean reduction
            (for errors summed over D elements it is β/D).
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
