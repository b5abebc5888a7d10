"""Diffusion-KTO: single videos that people want or do not want, no pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from reelign.objectives.beta import Reduction, Schedule

Utility = Literal["sigmoid", "loss_averse", "risk_seeking"]


@dataclass(frozen=True, kw_only=True, slots=True)
class KTO:
    """Settings of `kto_loss`."""

    name: Literal["kto"] = "kto"

    beta: float = 500.0
    """Pull towards the reference; larger stays closer. Multiplies a squared error averaged over all elements.

    The same as DPO's, because so their gradients at the reference agree: DPO's is β/2·½ on each video's error, KTO's
    (which has no ½) β·¼. The released code's 1000 and the paper's 5000 (arXiv:2404.04465) are for epsilon errors,
    which are (1 - sigma)² times smaller. Beyond β·|gain| of about 5 the sigmoid is flat and nothing is learnt: start
    near 1 / the gains' standard deviation."""

    schedule: Schedule = "constant"
    """`one_minus_sigma_squared` multiplies β with (1 - sigma)²; flow models only."""
    reduction: Reduction = "mean"
    """How the errors are reduced that β was chosen for; `sum` is converted exactly."""
    utility: Utility = "sigmoid"
    """The shape of people's utility; the paper found `sigmoid` (Kahneman and Tversky's) best."""
    baseline: Literal["matched", "mismatched"] = "matched"
    """What the baseline is measured on: the batch itself, as in the authors' code, or each video under its neighbour's
    prompt, as in the paper (unbiased, two more forwards without gradients)."""
    desirable_weight: float = 1.0
    """Of the loss of desirable videos; raise the rarer kind's where the two are far from equal in number."""
    undesirable_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("beta", "desirable_weight", "undesirable_weight"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    def __call__(self, error: Tensor, ref_error: Tensor, desirable: Tensor, *, baseline: Tensor) -> Tensor:
        return self.weighted(error, ref_error, desirable, beta=self.beta, baseline=baseline)

    def weighted(
        self, error: Tensor, ref_error: Tensor, desirable: Tensor, *, beta: float | Tensor, baseline: Tensor
    ) -> Tensor:
        """`kto_loss` at another β (a schedule's, or one converted), times the weight of each video's kind."""
        loss = kto_loss(error, ref_error, desirable, beta=beta, baseline=baseline, utility=self.utility)
        kind = desirable.to(loss.dtype)
        return loss * (kind * self.desirable_weight + (1 - kind) * self.undesirable_weight)


def kto_loss(
    error: Tensor,
    ref_error: Tensor,
    desirable: Tensor,
    *,
    beta: float | Tensor,
    baseline: float | Tensor,
    utility: Utility = "sigmoid",
) -> Tensor:
    """Diffusion-KTO loss of each video.

    Li et al. 2024 (arXiv:2404.04465), in the scale of the authors' code (no ½), with gain g = ref - error:

        1 - U( ±β·(g - baseline) ),   + for a desirable video, - for an undesirable one

        sigmoid        U(x) = σ(x)          largest slope at the baseline, flat far from it
        loss_averse    U(x) = log σ(x)      what is worse than the baseline never stops to count
        risk_seeking   U(x) = -log σ(-x)    what is better never stops to count

    Args:
        error: (videos,) the policy's mean squared error of its native target.
        ref_error: (videos,) the reference's, at the same noise and sigma.
        desirable: (videos,) bool.
        beta: > 0, in units of 1/error under the mean reduction; or (videos,).
        baseline: what an indifferent video gains, in units of error, >= 0; from `kto_baseline`.
        utility: the shape of U.
    Returns:
        (videos,) loss; at the reference with baseline 0: ½ (sigmoid), 1 + log 2 (loss_averse), 1 - log 2
        (risk_seeking).
    Raises:
        ValueError: shapes differ, or `desirable` is not bool.
    """
    if error.ndim != 1 or error.shape != ref_error.shape or error.shape != desirable.shape:
        shapes = [tuple(each.shape) for each in (error, ref_error, desirable)]
        raise ValueError(f"error, ref_error and desirable must all be (videos,), got {shapes}")
    if desirable.dtype != torch.bool:
        raise ValueError(f"desirable must be bool, got {desirable.dtype}")
    sign = 2 * desirable.to(error.dtype) - 1
    x = sign * beta * (ref_error - error - baseline)
    if utility == "sigmoid":
        return 1 - x.sigmoid()
    if utility == "loss_averse":
        return 1 - F.logsigmoid(x)
    if utility == "risk_seeking":
        return 1 + F.logsigmoid(-x)
    raise ValueError(f"utility must be sigmoid, loss_averse or risk_seeking, got {utility!r}")


def kto_baseline(error: Tensor, ref_error: Tensor) -> Tensor:
    """The mean gain of a whole batch, clamped at 0 and without gradient: a scalar in units of error.

    max(0, mean(ref - error)), the estimate of KL(policy ‖ reference) / β that gains are measured against. Over the
    batch's own videos it is the authors' code's and biased towards them (a batch of desirable videos alone would have
    its whole signal subtracted); over videos under other prompts it is the paper's. The mean runs over all
    micro-batches and ranks BEFORE the clamp: parts clamped on their own add up to something else.

    Args:
        error, ref_error: (videos,) of the whole batch, at the same noise and sigma.
    """
    if error.ndim != 1 or error.shape != ref_error.shape or not len(error):
        raise ValueError(f"errors must both be (videos,), got {tuple(error.shape)} and {tuple(ref_error.shape)}")
    return (ref_error - error).detach().mean().clamp(min=0)
