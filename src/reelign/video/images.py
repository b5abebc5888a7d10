"""Image files as tensors."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor

from reelign.errors import ReelignError


def read_image(path: str | Path) -> Tensor:
    """An image as RGB (3, H, W) in [0, 1], the way up that its camera noted; what is transparent shows its colours.

    Raises:
        ReelignError: it cannot be read.
    """
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, SyntaxError) as error:
        raise ReelignError(f"{path} cannot be read as an image: {error}", "Give a PNG, JPEG or WebP.") from error
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(image.height, image.width, 3).permute(2, 0, 1).float() / 255
