"""What a plan of a run's memory says."""

from __future__ import annotations

from dataclasses import dataclass

from reelign.generators.base import VideoSize
from reelign.recipes.settings import RunSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A stretch of a run and the most that lives in it, on the device."""

    name: str
    held: dict[str, int]
    """Bytes that are there throughout, such as the denoiser's weights."""
    by: dict[str, int]
    """Bytes beside them when most lives, by the part that made them: activations, gradients, pixels."""

    @property
    def total(self) -> int:
        return sum(self.held.values()) + sum(self.by.values())

    @property
    def largest(self) -> str:
        """The term that a user would have to lower."""
        part = max(self.by, key=lambda name: self.by[name])
        weights = max(self.held, key=lambda name: self.held[name])
        return part if self.by[part] >= self.held[weights] else weights


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryPlan:
    """What a run with these settings needs."""

    model: str
    settings: RunSettings
    size: VideoSize
    tokens: int
    """Of one clip in the denoiser."""
    trainable: int
    """Parameters."""
    stages: list[Stage]
    host: int
    """Bytes of a step in the host's memory, what a decoder keeps between its pieces most of all."""
    forwards: dict[str, float]
    """Of one step of the optimiser: calls of the denoiser `without a graph` and `with a graph` and those of `rollouts`,
    one for each video and side of guidance; `decoded videos` and `reward queries`."""
    left_out: tuple[str, ...] = ()
    """What is on the device too and was not counted."""
    mend: str = ""
    """The setting that would lower the peak."""

    @property
    def peak(self) -> Stage:
        """The stage that needs most."""
        return max(self.stages, key=lambda stage: stage.total)
