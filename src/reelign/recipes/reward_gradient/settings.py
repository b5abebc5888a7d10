"""Settings of alignment by a reward's gradient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from reelign.diffusion.noise_levels import Distribution
from reelign.diffusion.steps import DDIM, EDMEuler, Euler
from reelign.diffusion.truncation import LastSteps, NoisyStep, OneStep, RandomSteps, Renoised
from reelign.objectives import SFT, Anchors
from reelign.objectives.reward_gradient import RewardGradient
from reelign.recipes.data.real_clips import Images
from reelign.recipes.reward_gradient.frames import FrameChoice
from reelign.recipes.sampling import RolloutSampling
from reelign.recipes.settings import RunSettings, StepSettings
from reelign.recipes.watching.settings import WatchSettings
from reelign.training.staged_decode import DecodeSettings

Gradient = Annotated[LastSteps | RandomSteps | Renoised | OneStep | NoisyStep, Field(discriminator="name")]
Sampler = Annotated[Euler | DDIM | EDMEuler, Field(discriminator="name")]


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardChoice:
    """The reward that is maximised."""

    name: str = "aesthetic"
    """A differentiable one: a name, `composed` for several with weights, `package.module:object`, or `latent:FOLDER` of
    a latent reward, for which nothing is decoded."""
    options: dict[str, Any] = field(default_factory=dict)
    """What it is opened with, such as `model`; of a composed one its `parts`."""
    checkpointing: bool = False
    """Run the reward model's blocks again in the backward pass: for large ones on many frames."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutSize(RolloutSampling):
    """How videos are made while the policy trains."""

    segments: int | None = None
    """Of each video, every one going on from the last frame of the one before (VADER's long videos)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardGradientSettings(RunSettings):
    """How a policy climbs the gradient of a differentiable reward (ReFL, DRaFT, AlignProp, VADER, InstructVideo)."""

    stream: Literal["reward_gradient"] = "reward_gradient"
    """Where the samples come from; `recipes.streams` has the others."""
    reward: RewardChoice = field(default_factory=RewardChoice)
    objective: RewardGradient = field(default_factory=RewardGradient)
    gradient: Gradient = field(default_factory=LastSteps)
    """Which steps of the sampler carry gradient."""
    sampler: Sampler = field(default_factory=Euler)
    """Whose steps are run in training; finished videos are made by the family's own."""
    rollout: RolloutSize = field(default_factory=RolloutSize)
    edit_from: float | None = None
    """Begin from the videos of `real`, noised to the level of the schedule that is nearest to this, instead of from
    noise, and run the steps from there (InstructVideo, arXiv:2312.12490); None begins from noise."""
    frames: FrameChoice = field(default_factory=FrameChoice)
    decode: DecodeSettings = field(default_factory=DecodeSettings)
    """How pixels are decoded and their gradient comes back; which of them is said under `frames`."""
    through: Literal["last", "all"] = "last"
    """Of videos of several segments: the gradient goes through the `last` alone, the frame that it goes on from held
    constant, or through `all`, by way of what reads that frame. One segment's activations live at a time."""
    graph: Literal["step", "held"] = "step"
    """`step` runs each step that carries gradient a second time on the way back, so that one step's activations live at
    a time and none while pixels are decoded and scored; `held` keeps the activations of all K. The same gradient."""
    data_anchor: float = 0.0
    """Weight of the denoising errors on the videos of `real`, added to the loss (ReFL's and DDRL's guard)."""
    real: str = ""
    """A CSV or Parquet file of (prompt, video): real clips, for `data_anchor` and `edit_from`."""
    images: Images = "column"
    """Where they take the image that they go on from: the file's `column` image, or each its own `first_frame`."""
    noise_levels: Distribution = "uniform"
    """Of the draws of `data_anchor` and `objective.reference`."""
    shift: float = 1.0
    """Of their noise levels, towards noise."""
    batch_size: int = 8
    """Videos per optimiser step, of each rank where several train together."""
    micro_batch_size: int = 8
    """Of which this many are sampled, decoded and scored at once; smaller saves memory and changes nothing else."""
    watch: WatchSettings = field(default_factory=WatchSettings)
    """Looks by rewards that training does not see; the known failure of reward gradients is to rise and to be worse."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "micro_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.edit_from is not None and not 0 < self.edit_from <= 1:
            raise ValueError(f"edit_from must be a noise level in (0, 1], got {self.edit_from}")
        if not self.data_anchor >= 0:
            raise ValueError(f"data_anchor must be at least 0, got {self.data_anchor}")
        asked = bool(self.data_anchor) or self.edit_from is not None
        if asked and not self.real:
            raise ValueError("real must name a file of (prompt, video) for data_anchor and edit_from, got ''")
        if self.real and not asked:
            raise ValueError(f"real={self.real} does nothing by itself; set data_anchor or edit_from")
        if self.decode.frames is not None:
            raise ValueError(f"decode.frames is chosen at every step, got {self.decode.frames}; set frames instead")
        if self.decode.mode == "window" and self.frames.drawn:
            raise ValueError(
                f"decode.mode must not be window with frames.how={self.frames.how}: some of the frames that are drawn "
                "would be decoded from latents outside the window; give frames.start, or take how=spread"
            )
        if self.graph == "held" and self.gradient.name == "renoised":
            raise ValueError("graph must be step with gradient.name=renoised, whose noisings are decoded in turn")
        if self.gradient.name == "noisy" and not self.reward.name.startswith("latent:"):
            raise ValueError(f"gradient.name=noisy needs a reward on latents, latent:FOLDER, got {self.reward.name}")
        if self.gradient.name == "noisy" and self.objective.reference:
            raise ValueError("objective.reference needs finished videos, which gradient.name=noisy does not make")
        self.anchor_steps()  # refuses what it does not take

    def anchor_steps(self) -> StepSettings:
        """What the steps of the anchors read."""
        return StepSettings(
            objective=SFT(),
            anchors=Anchors(real=self.data_anchor),
            real=self.real,
            images=self.images,
            noise_levels=self.noise_levels,
            shift=self.shift,
            micro_batch_size=self.micro_batch_size,
            seed=self.seed,
            experts=self.experts,
        )
