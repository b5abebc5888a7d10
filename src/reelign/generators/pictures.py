"""Images of prompts as the pipelines' own processors take them."""

from __future__ import annotations

from PIL import Image
from torch import Tensor


def as_pictures(images: Tensor) -> list[Image.Image]:
    """Images (B, 3, H, W) in [0, 1] as 8-bit RGB: processors resize tensors otherwise than what a user opens."""
    pixels = (images.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(each) for each in pixels]
