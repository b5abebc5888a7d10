"""Where metrics and sample videos are shown beside `metrics.jsonl`: TensorBoard, Weights & Biases, trackio.

One tracker is one class with three methods. None decides anything: a run with other trackers is the same run.
"""

from __future__ import annotations

import importlib
import io
import math
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from PIL import Image

from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.training.policy import Policy
from reelign.video import read_video

TrackerName = Literal["tensorboard", "wandb", "trackio"]
PROJECT = "reelign"
"""Under which runs stand in Weights & Biases and trackio, unless WANDB_PROJECT or TRACKIO_PROJECT says another."""


class Tracker(Protocol):
    """A place to look at a run while it trains."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def video(self, step: int, name: str, path: Path, caption: str) -> None:
        """Show an mp4; `name` stays the same over the steps."""
        ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in the run's folder; videos as moving GIFs, which is all that TensorBoard plays."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder = folder / "tensorboard"
        self.writer: Any = None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer(step).add_scalar(name, value, step)

    def video(self, step: int, name: str, path: Path, caption: str) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        gif, height, width = _gif(path)
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif)
        # torch's own add_video needs moviepy for this very picture.
        writer = self._writer(step)._get_file_writer()
        writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()

    def _writer(self, step: int) -> Any:
        """Opened at the first thing to write, whose step says what a killed run left behind it."""
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.folder), purge_step=step)
        return self.writer


class WandB:
    """Weights & Biases, set up by its own environment: WANDB_MODE=offline, WANDB_PROJECT, WANDB_ENTITY."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        import wandb

        self.wandb = wandb
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=_title(folder),
            id=_identity(folder / "wandb-id"),
            resume="allow",
            dir=str(folder),
            config=dict(config),
        )
        # Its own step never goes back, as ours does where a killed run is resumed from a checkpoint.
        self.run.define_metric("*", step_metric="step")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.run.log({"step": step, **metrics})

    def video(self, step: int, name: str, path: Path, caption: str) -> None:
        self.run.log({"step": step, name: self.wandb.Video(str(path), caption=caption, format="mp4")})

    def close(self) -> None:
        self.run.finish()


class Trackio:
    """trackio's local store (TRACKIO_DIR), or a Space that TRACKIO_SPACE_ID names; `trackio show` opens it."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        import trackio

        self.trackio: Any = trackio
        name = f"{_title(folder)}-{_identity(folder / 'trackio-id')}"
        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        # Nothing of it but the run: no page is opened, no other numbers are taken.
        quiet: dict[str, Any] = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        self.run = trackio.init(project=project, name=name, resume="allow", config=dict(config), **quiet)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.run.log(dict(metrics), step=step)

    def video(self, step: int, name: str, path: Path, caption: str) -> None:
        self.run.log({name: self.trackio.Video(path, caption=caption)}, step=step)

    def close(self) -> None:
        self.trackio.finish()


TRACKERS: dict[TrackerName, tuple[str, str, Callable[[Path, Mapping[str, Any]], Tracker]]] = {
    "tensorboard": ("tensorboard", "track", TensorBoard),
    "wandb": ("wandb", "wandb", WandB),
    "trackio": ("trackio", "trackio", Trackio),
}
"""Name -> the package it needs, the extra that brings it, its class."""
assert tuple(TRACKERS) == get_args(TrackerName)


class Trackers:
    """All trackers of a run, as a monitor that adds no metric of its own; it stands last, so that it sees all others'.

    Args:
        names: None is TensorBoard where it is installed.
        folder: the run's.
        config: as resolved, shown beside the run.
    Raises:
        ReelignError: a package that is not installed.
    """

    def __init__(self, names: Sequence[TrackerName] | None, folder: Path, config: Mapping[str, Any]) -> None:
        check_trackers(names)
        if names is None:
            names = ["tensorboard"] if find_spec("tensorboard") else []
        self.trackers: list[Tracker] = [TRACKERS[name][2](folder, config) for name in dict.fromkeys(names)]

    def after_step(self, step: int, policy: Policy, metrics: dict[str, float]) -> dict[str, float]:
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        for tracker in self.trackers:
            tracker.log(step, finite)
        return {}

    def video(self, step: int, name: str, path: Path, caption: str) -> None:
        for tracker in self.trackers:
            tracker.video(step, name, path, caption)

    def verdict(self) -> str | None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, *error: object) -> None:
        for tracker in self.trackers:
            tracker.close()


def check_trackers(names: Sequence[TrackerName] | None) -> None:
    """Refuse a tracker whose package is missing, before anything is loaded."""
    for name in names or ():
        package, extra, _ = TRACKERS[name]
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ReelignError(
                f"trackers names {name}, and the package {package} cannot be imported: {error}.",
                f"Install it, pip install 'reelign[{extra}]', or leave {name} out.",
            ) from error


def _title(folder: Path) -> str:
    """`workspace-run`."""
    return f"{folder.parent.parent.name}-{folder.name}"


def _identity(path: Path) -> str:
    """A name in the run's folder that a resumed run finds again, and a run that is begun anew does not."""
    if not path.exists():
        write_text(path, uuid.uuid4().hex[:8])
    return path.read_text()


def _gif(path: Path) -> tuple[bytes, int, int]:
    clip = read_video(path)
    frames = (clip.frames.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    first, *others = [Image.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    first.save(buffer, format="GIF", save_all=True, append_images=others, duration=round(1000 / clip.fps), loop=0)
    return buffer.getvalue(), first.height, first.width
