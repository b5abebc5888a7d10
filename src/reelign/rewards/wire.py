"""How videos travel to a served reward: one safetensors file a request, without loss.

Not as mp4s: a codec changes what is scored by about 3/255 a pixel, and takes several times as long. A clip that was
read from a file holds whole 255ths and travels as bytes; any other as float32.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.base import Videos

CONTENT_TYPE = "application/x-safetensors"
Precision = Literal["exact", "uint8"]
"""exact: no value changes. uint8: rounded to 255ths, a quarter of the size of float32."""
DTYPES = (torch.uint8, torch.float16, torch.float32)
LONGEST_PROMPT = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Parcel:
    """What one request asks to have scored."""

    videos: list[Tensor]
    """(F, 3, H, W) each; uint8 in 0..255, or float in [0, 1]."""
    prompts: list[str]
    fps: float | None


def packed(video: Tensor, precision: Precision = "exact") -> Tensor:
    """(F, 3, H, W) in [0, 1] as it travels."""
    video = video.detach().cpu()
    # A video of other values shows it in its first frame, mostly; only one of whole 255ths has to be gone through.
    if precision == "uint8" or (_is_whole(video[:1]) and _is_whole(video)):
        return _bytes(video).to(torch.uint8)
    return video.contiguous() if video.dtype in DTYPES else video.float().contiguous()


def _bytes(video: Tensor) -> Tensor:
    return (video.float() * 255).round_().clamp_(0, 255)


def _is_whole(video: Tensor) -> bool:
    return torch.equal(_bytes(video).div_(255), video.float())


def unpacked(video: Tensor) -> Tensor:
    """As it travelled, to float32 in [0, 1]."""
    return video.float() / 255 if video.dtype == torch.uint8 else video.float()


def pack(videos: Videos, prompts: Sequence[str], *, fps: float | None, precision: Precision = "exact") -> bytes:
    """The body of a request: tensors `0`, `1`, ... and, as metadata, `prompts` (JSON) and `fps`."""
    metadata = {"prompts": json.dumps(list(prompts))} | ({} if fps is None else {"fps": repr(float(fps))})
    return save({str(number): packed(video, precision) for number, video in enumerate(videos)}, metadata)


def unpack(body: bytes) -> Parcel:
    """What a request holds.

    Raises:
        ReelignError: not what `pack` writes.
    """
    try:
        length = int.from_bytes(body[:8], "little")
        metadata: Any = json.loads(body[8 : 8 + length]).get("__metadata__", {})
        tensors = load(body)
        prompts = json.loads(metadata["prompts"])
        fps = float(metadata["fps"]) if "fps" in metadata else None
    except (SafetensorError, ValueError, KeyError, AttributeError, TypeError, RecursionError, OverflowError) as error:
        raise _malformed(f"it is no safetensors file with prompts ({type(error).__name__})") from None
    if not isinstance(prompts, list) or not all(isinstance(text, str) for text in prompts):
        raise _malformed("prompts is no list of texts")
    if set(tensors) != {str(number) for number in range(len(prompts))} or not prompts:
        raise _malformed(f"it holds {len(tensors)} videos and {len(prompts)} prompts")
    if max(map(len, prompts)) > LONGEST_PROMPT:
        raise _malformed(f"a prompt is longer than {LONGEST_PROMPT} letters")
    if fps is not None and not 0 < fps < math.inf:
        raise _malformed(f"fps is {fps}")
    videos = [tensors[str(number)] for number in range(len(prompts))]
    for number, video in enumerate(videos):
        _check(number, video)
    return Parcel(videos=videos, prompts=prompts, fps=fps)


def _check(number: int, video: Tensor) -> None:
    if video.ndim != 4 or video.shape[1] != 3 or 0 in video.shape or video.dtype not in DTYPES:
        raise _malformed(f"video {number} is {tuple(video.shape)} of {video.dtype}")
    if video.dtype != torch.uint8:
        low, high = video.min().item(), video.max().item()
        if not (low >= -0.01 and high <= 1.01):
            raise _malformed(f"video {number} has values from {low:.3g} to {high:.3g}")


def _malformed(reason: str) -> ReelignError:
    return ReelignError(
        f"The request cannot be read: {reason}.",
        "Send a safetensors file of videos '0', '1', ... (frames, 3, height, width), uint8 or float in [0, 1], with "
        "`prompts` (a JSON list) and `fps` as metadata.",
    )
