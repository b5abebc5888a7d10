"""Images of prompts as the pipelines' own processors take them, and frames as those would, with their gradient."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


def as_pictures(images: Tensor) -> list[Image.Image]:
    """Images (B, 3, H, W) in [0, 1] as 8-bit RGB: processors resize tensors otherwise than what a user opens."""
    pixels = (images.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(each) for each in pixels]


def wide(frames: Tensor) -> Tensor:
    """Frames in [0, 1] as pixels in [-1, 1], in at least fp32."""
    return (frames if frames.dtype == torch.float64 else frames.float()) * 2 - 1


def as_processed(frames: Tensor, processor: Any) -> Tensor:
    """Frames (B, 3, H, W) in [0, 1] as a CLIPImageProcessor makes them of pictures, differentiable.

    Shortest edge, crop of the centre, mean and deviation are its own; its bicubic filter is PIL's, whose result is
    rounded to 8 bits and this one is not.
    """
    edge, crop = processor.size["shortest_edge"], processor.crop_size
    height, width = frames.shape[-2:]
    short = min(height, width)
    scaled = F.interpolate(
        frames,
        size=(height * edge // short, width * edge // short),
        mode="bicubic",
        antialias=True,
        align_corners=False,
    ).clamp(0, 1)
    top, left = (scaled.shape[-2] - crop["height"]) // 2, (scaled.shape[-1] - crop["width"]) // 2
    return normalised(scaled[..., top : top + crop["height"], left : left + crop["width"]], processor)


def normalised(pixels: Tensor, processor: Any) -> Tensor:
    """Pixels (B, 3, H, W) in [0, 1] less a processor's mean over its deviation, colour by colour."""
    mean, deviation = (pixels.new_tensor(each)[:, None, None] for each in (processor.image_mean, processor.image_std))
    return (pixels - mean) / deviation
