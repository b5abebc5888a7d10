"""Supervised fine-tuning: the denoising error itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class SFT:
    """Settings of `sft_loss`."""

    name: Literal["sft"] = "sft"
    on: Literal["chosen", "random", "rejected"] = "chosen"
    """Which videos: the preferred ones, or as controls random ones of the same groups or the losing ones."""

    def __call__(self, error: Tensor) -> Tensor:
        return sft_loss(error)


def sft_loss(error: Tensor) -> Tensor:
    """The denoising error of each sample, unchanged.

    Flow matching (Lipman et al. 2022, arXiv:2210.02747, eq. 14): E‖v_θ(z_σ, σ) - (noise - latents)‖².

    Args:
        error: (samples,) mean squared error of the policy's native target.
    Returns:
        (samples,) loss.
    """
    if error.ndim != 1:
        raise ValueError(f"error must be (samples,), got {tuple(error.shape)}")
    return error
