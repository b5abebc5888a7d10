"""Settings of online alignment."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from reelign.critics.judging import CriticUse
from reelign.objectives import KTO
from reelign.recipes.online.selection import Selection
from reelign.recipes.sampling import RolloutSampling
from reelign.recipes.settings import StepSettings
from reelign.recipes.watching.settings import WatchSettings
from reelign.rewards.judging import RewardUse
from reelign.training.reference_policy import EMA, Curriculum, Fixed, Gated

Reference = Annotated[Fixed | Curriculum | EMA | Gated, Field(discriminator="name")]


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutSettings(RolloutSampling):
    """How candidates are sampled while the policy trains."""

    candidates: int = 6
    """Videos of each prompt (OnlineVPO's N)."""
    batch_size: int | None = None
    """Videos in one call of the sampler and of the VAE."""

    def __post_init__(self) -> None:
        RolloutSampling.__post_init__(self)
        if self.candidates < 2:
            raise ValueError(f"candidates must be at least 2, got {self.candidates}")


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseDistance:
    """The policy's distance to the first base, wherever the reference has moved: mean ‖v_policy - v_base‖²."""

    anchor: float = 0.0
    """Weight of the distance in the loss: a KL to the base, beside the objective's to the reference."""
    every: int = 10
    """Steps between two measurements on the samples of a step; with an anchor it is measured at each."""
    videos: int = 8
    """At most so many are measured on, of each rank, where there is no anchor."""

    def __post_init__(self) -> None:
        if not 0 <= self.anchor < math.inf:
            raise ValueError(f"anchor must be a number of at least 0, got {self.anchor}")
        for name in ("every", "videos"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class OnlineSettings(StepSettings):
    """How a policy learns from what a judge says of its own videos (OnlineVPO, arXiv:2412.15159)."""

    stream: Literal["online"] = "online"
    """Where the samples come from; `recipes.streams` has the others."""
    prompts: int = 8
    """Prompts of each step, of each rank where several train together; with `selection.top` pairs of each."""
    rollout: RolloutSettings = field(default_factory=RolloutSettings)
    judge: str = "spriteworld-people"
    """Who prefers: `reward:NAME`, `critic:NAME`, `latent:FOLDER` of a latent reward, a judge's name, or
    `package.module:object`. Judges that compare are asked about all pairs of a prompt's candidates, whose scores are
    how often each wins less how often it loses."""
    reward: RewardUse = field(default_factory=RewardUse)
    """Of a judge `reward:NAME`."""
    critic: CriticUse = field(default_factory=CriticUse)
    """Of a judge `critic:NAME`."""
    selection: Selection = field(default_factory=Selection)
    rollouts: Literal["fresh", "base"] = "fresh"
    """`base` samples all candidates from the model as it was before any training: offline training on as many pairs and
    in as many steps, from the same noise."""
    overlap: bool = False
    """Judge what is sampled while the next candidates are: worth it where the judge is on a device or machine of its
    own. The same scores, and samples, either way."""
    ahead: bool = False
    """Sample a step's candidates before the step before it trains, and judge them while it does: for a judge on a
    device or machine of its own that takes about as long as the training. Samples are a step stale, which is logged."""
    reuse: int = 1
    """Steps that train on the same samples, each with draws of its own; above 1 they are stale from the second on."""
    patience: int = 10
    """Rollouts in a row without a single preference after which the run is ended as useless."""
    reference: Reference = field(default_factory=Curriculum)
    distance: BaseDistance = field(default_factory=BaseDistance)
    watch: WatchSettings = field(default_factory=WatchSettings)

    def __post_init__(self) -> None:
        StepSettings.__post_init__(self)
        for name in ("prompts", "reuse", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if 2 * self.selection.top > self.rollout.candidates:
            raise ValueError(
                f"selection.top={self.selection.top} takes {2 * self.selection.top} candidates of a prompt, and "
                f"rollout.candidates is {self.rollout.candidates}"
            )
        if isinstance(self.objective, KTO) and self.objective.baseline == "mismatched":
            raise ValueError(
                "objective.baseline=mismatched needs two prompts in every batch, and groups without one may leave "
                "one; set it to matched"
            )
        if self.lora is None and not isinstance(self.reference, Fixed):
            raise ValueError(
                f"reference.name={self.reference.name} is a second adapter, and lora=null has none; set it to fixed"
            )
        if self.real and not self.anchors.real:
            raise ValueError(f"real={self.real} does nothing by itself; set anchors.real")
