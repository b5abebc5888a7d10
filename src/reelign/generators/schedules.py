"""Noise levels of families whose diffusers scheduler holds a DDPM table.

Whatever scheduler a pipeline is saved with, its table, timestep spacing and last level define the same path, and the
Euler sampler on it is DDIM (Song et al. 2020, arXiv:2010.02502) without noise. Stochastic and multistep schedulers,
such as CogVideoX's DPM one, then make other videos from the same noise, of the same distribution.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reelign.diffusion.paths import DDPM
from reelign.errors import ReelignError


def ddpm_path(scheduler: Any, model: str) -> DDPM:
    """The path of a scheduler's table.

    Raises:
        ReelignError: the model predicts neither epsilon nor v, or the scheduler clips, which no flow does.
    """
    kind = scheduler.config.prediction_type
    if kind not in ("epsilon", "v_prediction"):
        raise ReelignError(
            f"{model} predicts {kind!r}, which reelign does not support on a DDPM table.",
            "Use a checkpoint whose scheduler says prediction_type epsilon or v_prediction.",
        )
    try:
        return DDPM(scheduler.alphas_cumprod, "epsilon" if kind == "epsilon" else "v")
    except ValueError as error:
        raise ReelignError(
            f"The scheduler of {model} holds no usable table of noise levels: {error}.",
            "Compare its scheduler_config.json with the one that its authors published.",
        ) from error


def ddim_sigmas(path: DDPM, ddim: Any, steps: int) -> Tensor:
    """(steps + 1,) canonical levels of a DDIM scheduler's timesteps, and the one it stops at.

    Each step ends where the next begins. diffusers' DDIM instead goes to `timestep - T // steps`, which is the next
    timestep for spacing `leading` and, where `steps` divides T, `trailing`, but for `linspace` never.

    Raises:
        ReelignError: more steps than the table has levels.
    """
    levels = len(path.sigmas)
    if steps > levels:
        raise ReelignError(
            f"{steps} sampling steps are more than the {levels} noise levels of the model.",
            f"Set num_inference_steps to at most {levels}.",
        )
    ddim.set_timesteps(steps)
    last = path.level_of(torch.as_tensor(ddim.final_alpha_cumprod)).reshape(1)
    return torch.cat([path.sigmas[ddim.timesteps.cpu()], last])
