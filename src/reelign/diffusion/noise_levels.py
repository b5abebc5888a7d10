"""Where on the path training looks: distributions of sigma."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Distribution = Literal["uniform", "logit_normal"]


def shift_sigma(sigma: Tensor, shift: float) -> Tensor:
    """Move noise levels towards noise for s > 1: `s·sigma / (1 + (s - 1)·sigma)` (SD3, arXiv:2403.03206, eq. 23)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def sample_sigmas(count: int, distribution: Distribution, *, shift: float, generator: torch.Generator) -> Tensor:
    """Draw training noise levels.

    Args:
        count: how many, one per sample (a pair shares one).
        distribution: `uniform` on (0, 1), as Flow-DPO's paper draws; or `logit_normal`, sigmoid of a standard normal,
            as SD3 trains and Flow-GRPO's own DPO draws.
        shift: `shift_sigma` applied afterwards; 1 leaves the levels alone.
        generator: the only source of randomness.
    Returns:
        (count,) in (0, 1), on the generator's device: the levels themselves on a flow, and on other paths the quantiles
        of what `FlowPath.training_sigmas` makes levels.
    """
    if distribution == "uniform":
        sigma = torch.rand(count, generator=generator, device=generator.device)
    elif distribution == "logit_normal":
        sigma = torch.randn(count, generator=generator, device=generator.device).sigmoid()
    else:
        raise ValueError(f"distribution must be one of {get_args(Distribution)}, got {distribution!r}")
    return shift_sigma(sigma, shift)
