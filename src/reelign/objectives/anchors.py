"""Denoising terms that hold an objective near videos known to be good."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Anchors:
    """Weights of the denoising errors that are added to an objective; 0 adds nothing.

    IPO's (arXiv:2502.02088) are chosen 0.2 and real 0.1 beside DPO; beside KTO it has real alone.
    """

    chosen: float = 0.0
    """λ1, on the chosen videos of the pairs: keeps their likelihood from falling with the rejected ones'."""
    real: float = 0.0
    """λ2, on real videos: beside any objective, as in DDRL (arXiv:2512.04332)."""

    def __post_init__(self) -> None:
        for name in ("chosen", "real"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")


def anchored_loss(
    loss: Tensor,
    *,
    chosen_error: Tensor | None = None,
    chosen_weight: float = 0.2,
    real_error: Tensor | None = None,
    real_weight: float = 0.1,
) -> Tensor:
    """An objective's loss of each sample plus weighted denoising errors.

    Iterative Preference Optimization (Yang et al. 2025, arXiv:2502.02088; not Azar et al.'s identity preference loss of
    the same initials), with its negative log-likelihoods realised as denoising errors:

        dpo + λ1·NLL(chosen) + λ2·NLL(real)        kto + λ·NLL(real)

    Beside any objective the real term is the data anchor of DDRL (arXiv:2512.04332), a forward KL to the data. On an
    error the gradient of the anchor is λ and that of DPO β/4 at the reference: the anchors bite where pairs are ranked
    with room to spare.

    Args:
        loss: (samples,) of any objective.
        chosen_error: (samples,) the policy's mean squared error on the chosen videos, or None.
        real_error: (samples,) the same on real videos, one drawn beside each sample, or None.
    Returns:
        (samples,) loss.
    """
    terms = (("chosen_error", chosen_error, chosen_weight), ("real_error", real_error, real_weight))
    for name, error, weight in terms:
        if error is None:
            continue
        if error.shape != loss.shape:
            raise ValueError(f"{name} must have the loss's shape {tuple(loss.shape)}, got {tuple(error.shape)}")
        loss = loss + weight * error
    return loss
