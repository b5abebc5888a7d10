"""A question as the content of a chat message of OpenAI's API: texts, and videos as pictures or as an mp4."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch.nn.functional as F

from reelign.critics.frames import Part, Shown
from reelign.critics.keeping import Kept
from reelign.video import encode_video

Send = Literal["images", "video"]
JPEG_QUALITY = 95
"""What UnifiedReward's authors send."""


def content(parts: Sequence[Part], send: Send, kept: Kept[Shown, list[str]] | None = None) -> list[dict[str, Any]]:
    """The parts in order; a frame is an `image_url`, or all frames of a video are one `video_url`, as data: URLs.

    `kept` holds the URLs of videos that are shown again.
    """
    kept = kept or Kept()
    found: list[dict[str, Any]] = []
    for part in parts:
        if isinstance(part, str):
            found.append({"type": "text", "text": part})
        elif send == "images":
            found += [
                {"type": "image_url", "image_url": {"url": url}} for url in kept.of(part, send, partial(_jpegs, part))
            ]
        else:
            (url,) = kept.of(part, send, partial(_mp4, part))
            found.append({"type": "video_url", "video_url": {"url": url}})
    return found


def _jpegs(shown: Shown) -> list[str]:
    from PIL import Image

    urls = []
    for frame in shown.frames:
        held = io.BytesIO()
        Image.fromarray(frame.permute(1, 2, 0).numpy()).save(held, "JPEG", quality=JPEG_QUALITY)
        urls.append(_url("image/jpeg", held.getvalue()))
    return urls


def _mp4(shown: Shown) -> list[str]:
    """The frames at the rate at which they last as long as the video; odd sides get a black line, as H.264 wants."""
    height, width = shown.frames.shape[-2:]
    even = F.pad(shown.frames, (0, width % 2, 0, height % 2))
    return [_url("video/mp4", encode_video(even.float() / 255, shown.fps))]


def _url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
