"""Contact sheets: many videos in one picture, a row each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from reelign.errors import ReelignError

GAP = 4
LINE = 16
"""Pixels between pictures, and the height of a line of text."""


def contact_sheet(videos: Tensor, labels: Sequence[str], *, frames: int = 5, scale: int | None = None) -> Image.Image:
    """A picture with one row per video: its label above, its frames from first to last, evenly spaced.

    Args:
        videos: (B, F, 3, H, W), float in [0, 1].
        labels: B lines of text; what does not fit is cut with an ellipsis.
        frames: how many frames to show, at most F are.
        scale: whole-number enlargement (nearest); by default small videos grow to about 96 pixels.
    Raises:
        ReelignError: the shapes or the number of labels do not fit.
    """
    if videos.ndim != 5 or videos.shape[2] != 3 or 0 in videos.shape:
        raise ReelignError(
            f"videos must be (batch, frames, 3, height, width), got {tuple(videos.shape)}", "Stack them first."
        )
    if len(labels) != len(videos):
        raise ReelignError(f"{len(videos)} videos need as many labels, got {len(labels)}", "Give one label per video.")
    if frames < 1 or (scale is not None and scale < 1):
        raise ReelignError(f"frames and scale must be at least 1, got {frames} and {scale}", "Leave them out.")
    scale = scale or max(1, round(96 / videos.shape[-1]))
    shown = torch.linspace(0, videos.shape[1] - 1, min(frames, videos.shape[1])).round().long()
    pixels = (videos[:, shown].detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = pixels.repeat_interleave(scale, dim=-2).repeat_interleave(scale, dim=-1)
    tiles = pixels.permute(0, 1, 3, 4, 2).contiguous().numpy()
    return _paste(tiles, labels)


def _paste(tiles: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], labels: Sequence[str]) -> Image.Image:
    rows, columns, height, width, _ = tiles.shape
    sheet_width = GAP + columns * (width + GAP)
    row_height = LINE + height + GAP
    sheet = Image.new("RGB", (sheet_width, GAP + rows * row_height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default()
    for row, label in enumerate(labels):
        top = GAP + row * row_height
        draw.text((GAP, top), _fit(label, sheet_width - 2 * GAP, draw, font), fill="black", font=font)
        for column in range(columns):
            sheet.paste(Image.fromarray(tiles[row, column]), (GAP + column * (width + GAP), top + LINE))
    return sheet


def _fit(text: str, width: int, draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """The longest beginning of the text's one line that fits."""
    text = " ".join(text.split())
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(text + "...", font=font) > width:
        text = text[:-1]
    return text.rstrip() + "..."
