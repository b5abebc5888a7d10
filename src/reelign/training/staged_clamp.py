"""From a decoder's unbounded pixels to the [0, 1] that people and rewards see, with a gradient chosen on purpose.

A decoder's output overshoots black and white a little. The plain clamp stops the gradient there, so a reward could
never pull such a pixel back; the choices here say what happens instead.
"""

from __future__ import annotations

import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Clamp = Literal["straight_through", "soft", "hard", "none"]
SHARPNESS = 40.0
"""Of the soft clamp: it leaves the identity by log(2) / SHARPNESS = 0.017 at 0 and 1, by 4 / 255."""


def clamp_video(video: Tensor, how: Clamp) -> Tensor:
    """Bound a video for a reward.

    Args:
        video: (B, F, 3, H, W), about [0, 1].
        how: `straight_through` clamps the values and lets the gradient pass as if it had not; `soft` bends smoothly
            towards 0 and 1 (`soft_clamp`); `hard` is the plain clamp, without gradient outside; `none` leaves values
            outside.
    """
    if how == "straight_through":
        return video + (video.clamp(0, 1) - video).detach()
    if how == "soft":
        return soft_clamp(video)
    return video.clamp(0, 1) if how == "hard" else video


def soft_clamp(video: Tensor) -> Tensor:
    """A smooth, rising clamp into (0, 1): (softplus(k·x) - softplus(k·(x - 1))) / k with k = SHARPNESS.

    Its slope is sigmoid(k·x) - sigmoid(k·(x - 1)): half at 0 and 1, nearly 1 between, and falling to 0 outside over
    about 0.1, so a pixel that overshoots a little is still pulled.
    """
    # Beyond its threshold torch takes softplus for the identity; exact here, for exp(-threshold) is below rounding.
    threshold = -math.log(1e-18)
    low = F.softplus(video, beta=SHARPNESS, threshold=threshold)
    return low - F.softplus(video - 1, beta=SHARPNESS, threshold=threshold)
