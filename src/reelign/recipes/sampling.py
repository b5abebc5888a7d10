"""How videos are sampled: the settings, and those with a model's own defaults filled in."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator, Guidance, VideoSize
from reelign.training.latent_guide import GuideSettings
from reelign.training.long_rollouts import check_segments
from reelign.video.long_clips import LongClip


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateSettings:
    """What to sample and how; None takes the model's own default."""

    split: str = "train"
    candidates: int = 4
    """Videos per prompt."""
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    guidance_scale_2: float | None = None
    """Of the expert for low noise, where a model has two (Wan 2.2 A14B); None is the model's own beside its own
    guidance_scale, and beside another the same."""
    negative_prompt: str = ""
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    fps: float | None = None
    segments: int = 1
    """Of each video: every one after the first goes on from the last frame of the one before, and has `num_frames` of
    its own less that one. For models that go on from images; long videos are kept without latents."""
    batch_size: int = 32
    seed: int = 0
    guide: GuideSettings = field(default_factory=GuideSettings)
    """A latent reward that guides `generate` and `sample`."""

    def __post_init__(self) -> None:
        sizes = ("num_inference_steps", "num_frames", "height", "width", "fps")
        for name in ("candidates", "segments", "batch_size", *sizes):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive, got {value}")
        for name in ("guidance_scale", "guidance_scale_2"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {value}")


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutSampling:
    """How videos are sampled while the policy trains; None is what the `generate` section says."""

    num_inference_steps: int | None = None
    """Fewer than for a finished video are often enough to tell the better one, and less to run before the steps that
    carry a gradient."""
    guidance_scale: float | None = None
    """1 asks the model once a step instead of twice; what is trained without guidance is used without it too."""
    guidance_scale_2: float | None = None
    """Of the expert for low noise, where the model has two."""
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    """A smaller size than that of finished videos is cheaper, and trains the policy at that size."""

    def __post_init__(self) -> None:
        for name in sorted({each.name for each in fields(self)} - {"guidance_scale", "guidance_scale_2"}):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name in ("guidance_scale", "guidance_scale_2"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {value}")

    def over(self, sampling: GenerateSettings) -> GenerateSettings:
        """The `generate` section with what is said here."""
        return replace(sampling, **{name: value for name, value in asdict(self).items() if value is not None})


@dataclass(frozen=True)
class Sampling:
    """Settings with the model's defaults filled in."""

    size: VideoSize
    fps: float
    steps: int
    guidance_scale: float
    negative_prompt: str
    guidance_scale_2: float | None = None
    """Where it is not what the model has beside `guidance_scale`."""
    segments: int = 1

    @staticmethod
    def resolve(settings: GenerateSettings, generator: Generator) -> Sampling:
        """Fill in the defaults and refuse a size the model cannot make, or segments of one that takes no images."""
        defaults = generator.defaults
        size = VideoSize(
            settings.num_frames or defaults.num_frames,
            settings.height or defaults.height,
            settings.width or defaults.width,
        )
        generator.check(size)
        check_segments(generator, settings.segments)
        LongClip(settings.segments, size.num_frames)  # refuses segments of a single frame
        if settings.negative_prompt and not generator.takes_negative_prompts:
            raise ReelignError(
                f"{generator.model} is guided in one pass, in which a negative prompt plays no part.",
                "Leave out negative_prompt.",
            )
        scale = defaults.guidance_scale if settings.guidance_scale is None else settings.guidance_scale
        return Sampling(
            size=size,
            fps=settings.fps or defaults.fps,
            steps=settings.num_inference_steps or defaults.num_inference_steps,
            guidance_scale=scale,
            guidance_scale_2=_second_scale(settings.guidance_scale_2, scale, generator),
            negative_prompt=settings.negative_prompt,
            segments=settings.segments,
        )

    @property
    def num_frames(self) -> int:
        """Of a whole video; `size` is that of a segment."""
        return LongClip(self.segments, self.size.num_frames).length

    def guidance(self, negative: Conditioning) -> Guidance:
        """Towards the prompt from its other side, a row for each video."""
        return Guidance(self.guidance_scale, negative, self.guidance_scale_2)

    def as_dict(self) -> dict[str, Any]:
        """What a video's record says of it; what is as it was before it could be said is left out, and keys stay."""
        second = {} if self.guidance_scale_2 is None else {"guidance_scale_2": self.guidance_scale_2}
        long = {"segments": self.segments} if self.segments > 1 else {}
        return {
            **long,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance_scale,
            **second,
            "negative_prompt": self.negative_prompt,
            "num_frames": self.size.num_frames,
            "height": self.size.height,
            "width": self.size.width,
            "fps": self.fps,
        }


def _second_scale(second: float | None, first: float, generator: Generator) -> float | None:
    """The scale of a second expert where it is not what the model has beside the first one's.

    Raises:
        ReelignError: the model has one denoiser, or the first scale switches guidance off, which holds for both.
    """
    own = generator.second_scale(first)
    if second is None or second == own:
        return None
    if own is None:
        raise ReelignError(
            f"{generator.model} has one denoiser, and guidance_scale_2 is that of a second.", "Leave it out."
        )
    if first <= 1:
        raise ReelignError(
            f"guidance_scale={first:g} switches guidance off at every noise level, and guidance_scale_2={second:g} is "
            "passed over.",
            "Set a guidance_scale above 1, or leave out guidance_scale_2.",
        )
    return second


def refuse_guide(sampling: GenerateSettings | None) -> None:
    """Refuse a guide for rollouts: it would bend videos that a policy is to learn from as its own.

    Raises:
        ReelignError: the guide weighs something.
    """
    if sampling is not None and sampling.guide.active:
        raise ReelignError(
            "A guide bends the videos of `generate`, and training makes its own from the policy as it stands.",
            "Leave generate.guide out of reelign.yaml while this trains, and give --guide to what samples afterwards.",
        )


def refuse_segments(sampling: Sampling, what: str) -> None:
    """Refuse long videos for what knows clips of one segment alone.

    Raises:
        ReelignError: there are several.
    """
    if sampling.segments > 1:
        raise ReelignError(
            f"{what} takes clips of one segment, and generate.segments={sampling.segments} makes long ones.",
            "Set segments=1 under generate.",
        )
