"""Sizes of clips and how a model is sampled, and the `reelign.json` beside a model's weights that varies both."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelign.errors import ReelignError

DEFAULTS_FILE = "reelign.json"
TOLD_KEY, FAMILY_KEY = "told", "generator"
"""What a `reelign.json` may hold beside defaults of sampling."""


@dataclass(frozen=True, slots=True)
class VideoSize:
    """A clip's size in pixels."""

    num_frames: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.num_frames} frames of {self.height} x {self.width}"


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """How a model is sampled where its user does not say."""

    num_frames: int
    height: int
    width: int
    fps: float
    guidance_scale: float
    num_inference_steps: int
    guidance_scale_2: float | None = None
    """Of the expert for low noise, where a model has two; it holds where `guidance_scale` is the default too."""

    @property
    def size(self) -> VideoSize:
        return VideoSize(self.num_frames, self.height, self.width)


def file_beside(model: str) -> Path | None:
    """The `reelign.json` in a model's folder, or in the copy of a hub id that lies here; None is none."""
    folder = Path(model)
    if folder.is_dir():
        path = folder / DEFAULTS_FILE
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        kept = try_to_load_from_cache(model, DEFAULTS_FILE)
    except HFValidationError:  # no hub id, and no folder either: whoever loads it says so
        return None
    return Path(kept) if isinstance(kept, str) else None


def fetch_beside(model_id: str) -> None:
    """Bring a hub id's `reelign.json`, where it has one, to where `file_beside` looks for it.

    Raises:
        HfHubHTTPError: the hub answers, and not of the file.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, OfflineModeIsEnabled

    # Without a network what lies here is all that is known.
    with contextlib.suppress(EntryNotFoundError, OfflineModeIsEnabled):
        hf_hub_download(model_id, DEFAULTS_FILE)


def values_beside(model: str) -> dict[str, Any]:
    """What that file says; nothing where there is none.

    Raises:
        ReelignError: it holds no JSON object.
    """
    path = file_beside(model)
    if path is None:
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ReelignError(f"{path} is damaged: {error}.", "Write a JSON object, or take the file away.") from error
