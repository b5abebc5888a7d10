"""The interface of a generator: a video model family with loaded weights over its diffusers pipeline."""

from __future__ import annotations

import abc
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from reelign.diffusion.paths import FlowPath, RectifiedFlow
from reelign.diffusion.samplers import VelocityFunction, initial_noise, sample_euler
from reelign.errors import ReelignError
from reelign.generators.checkpointing import run_again, run_again_but_attention
from reelign.generators.decoding.decoders import decoder_of
from reelign.generators.decoding.video import VideoDecoder

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


@dataclass(frozen=True)
class Conditioning:
    """What the denoiser takes beside noisy latents and sigma: named tensors, each (B, ...)."""

    tensors: dict[str, Tensor]

    def __len__(self) -> int:
        return next(iter(self.tensors.values())).shape[0]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def take(self, index: Tensor) -> Conditioning:
        """The rows at (n,) `index`, repeats allowed."""
        return Conditioning({name: tensor[index.to(tensor.device)] for name, tensor in self.tensors.items()})

    def joined(self, other: Conditioning) -> Conditioning:
        """With the tensors of another of as many rows, such as an image's beside a text's."""
        return Conditioning({**self.tensors, **other.tensors})

    def to(self, device: torch.device | str) -> Conditioning:
        return Conditioning({name: tensor.to(device) for name, tensor in self.tensors.items()})

    @staticmethod
    def cat(parts: list[Conditioning]) -> Conditioning:
        """Join along the batch."""
        return Conditioning({name: torch.cat([part[name] for part in parts]) for name in parts[0].tensors})


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance: `negative + scale·(positive - negative)`; a scale of 1 or less needs no second pass."""

    scale: float
    negative: Conditioning | None = None
    scale_2: float | None = None
    """Of the expert for low noise, where a model has two; None is its `second_scale`."""

    @property
    def active(self) -> bool:
        return self.scale > 1 and self.negative is not None


Steering = Callable[[VelocityFunction, Tensor, Conditioning], VelocityFunction]
"""(velocity, sigmas (steps + 1,), conditioning) -> the velocity that is sampled with."""


class Generator(abc.ABC):
    """One subclass per family; everything a family does its own way is inside its file.

    Args:
        pipeline: the loaded diffusers pipeline.
        model: the folder or hub id it came from.
    """

    pipeline_classes: ClassVar[tuple[str, ...]]
    """Names of the diffusers pipelines this file covers."""
    lora_targets: ClassVar[tuple[str, ...]]
    """Module name endings that take LoRA by default."""
    family_defaults: ClassVar[SamplingDefaults]
    path: FlowPath = RectifiedFlow()
    """Where the family's noise levels start and end, which of them it trains on, and the weight of its own loss."""

    def __init__(self, pipeline: Any, model: str) -> None:
        self.pipeline = pipeline
        self.model = model
        for denoiser in self.denoisers.values():
            # Denoisers stay in eval() while they train: dropout would tear the policy from its reference.
            denoiser.requires_grad_(False).eval()
        pipeline.vae.requires_grad_(False).eval()

    @property
    @abc.abstractmethod
    def denoisers(self) -> dict[str, nn.Module]:
        """Pipeline component name -> denoiser; one entry for most families."""

    def expert_rows(self, sigma: Tensor) -> dict[str, Tensor]:
        """By the name of each denoiser, (B,) bool, at which of the noise levels (B,) it answers. Most have one."""
        return {next(iter(self.denoisers)): torch.ones_like(sigma, dtype=torch.bool)}

    def second_scale(self, scale: float) -> float | None:
        """The guidance scale of an expert for low noise where this is the first one's; None without such an expert."""
        return None

    def expert(self, sigma: float) -> str:
        """Which of the denoisers answers at a noise level."""
        level = torch.tensor([sigma], dtype=torch.float32)
        return next(name for name, rows in self.expert_rows(level).items() if rows[0])

    @classmethod
    def variant(cls, index: Mapping[str, Any]) -> type[Generator]:
        """The class for a pipeline with this `model_index.json`, where models of one pipeline class differ."""
        return cls

    @classmethod
    def pipeline_type(cls, name: str) -> Any:
        """The class of the pipeline that `model_index.json` names: diffusers' own for most families."""
        import diffusers

        return getattr(diffusers, name)

    @property
    def device(self) -> torch.device:
        return next(next(iter(self.denoisers.values())).parameters()).device

    @property
    def published_defaults(self) -> SamplingDefaults:
        """The family's, or what the pipeline's own files say of this checkpoint."""
        return self.family_defaults

    @cached_property
    def defaults(self) -> SamplingDefaults:
        """The family's sampling defaults, varied by a `reelign.json` beside the weights."""
        path = Path(self.model) / DEFAULTS_FILE
        if not path.is_file():
            return self.published_defaults
        values = json.loads(path.read_text())
        return replace(
            self.published_defaults, **{name: values[name] for name in values.keys() - {TOLD_KEY, FAMILY_KEY}}
        )

    family_told: ClassVar[dict[str, float]] = {}
    """Numbers that the model is told beside text and image, such as frames a second, by the pipeline's name of each."""

    @cached_property
    def told(self) -> dict[str, float]:
        """The family's own, varied by `told` in a `reelign.json` beside the weights.

        Raises:
            ReelignError: a name that the model is not told.
        """
        path = Path(self.model) / DEFAULTS_FILE
        values = json.loads(path.read_text()).get("told", {}) if path.is_file() else {}
        strange = sorted(values.keys() - self.family_told.keys())
        if strange:
            raise ReelignError(
                f"{path} tells the model {strange[0]!r}, which it is not asked.",
                f"It is told {', '.join(self.family_told) or 'nothing beside its inputs'}.",
            )
        return {**self.family_told, **values}

    adapter_line: ClassVar[str] = ""
    """What a script of plain diffusers says before `pipe.load_lora_weights` works for the family."""

    @property
    def call_arguments(self) -> dict[str, Any]:
        """What a plain call of the pipeline needs beside size, steps and guidance to make the same videos."""
        return {}

    def pipeline_call(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """A plain call of the pipeline that makes the same videos: its class, what a script says before, its arguments.

        Args:
            arguments: size, steps, `guidance_scale` and `negative_prompt`, by the names that most pipelines have.
        """
        kind = type(self.pipeline)
        return {
            "pipeline": kind.__name__,
            "module": "diffusers" if kind.__module__.startswith("diffusers.") else kind.__module__,
            "adapter_line": self.adapter_line,
            "arguments": {**arguments, **self.call_arguments},
        }

    @cached_property
    def identity(self) -> str:
        """The model's name and a fingerprint of its files, for records and cache keys."""
        return f"{Path(self.model).name}@{fingerprint(self.model)}"

    @abc.abstractmethod
    def encode_prompts(self, prompts: list[str]) -> Conditioning:
        """Text conditioning of (len(prompts), ...), under no_grad; the empty string is the unconditional prompt."""

    @property
    def takes_negative_prompts(self) -> bool:
        """Whether a negative prompt plays a part in guidance; with an embedded scale there is no pass for one."""
        return True

    def passes(self, scale: float) -> int:
        """Denoiser passes of one video in a step guided at this scale: as many as there are sides of guidance."""
        return 2 if scale > 1 and self.takes_negative_prompts else 1

    @property
    def takes_images(self) -> bool:
        """Whether prompts may have an image that their videos go on from."""
        return type(self).encode_condition is not Generator.encode_condition

    @property
    def needs_images(self) -> bool:
        """Whether they must have one."""
        return self.takes_images

    def encode_condition(self, images: Tensor, size: VideoSize) -> Conditioning:
        """What the model takes of the first frames that its clips go on from, to be joined to its text conditioning.

        Args:
            images: (B, 3, H, W) in [0, 1], of any size; brought to that of the clips as the family's pipeline does.
            size: of the clips.
        Returns:
            named tensors of B rows, under no_grad.
        Raises:
            ReelignError: the family makes videos of text alone.
        """
        raise ReelignError(
            f"{self.model} makes videos of text alone and takes no image.",
            "Use an image-to-video checkpoint, or prompts without images.",
        )

    def clean_mask(self, shape: Sequence[int], conditioning: Conditioning) -> Tensor | None:
        """(B, 1, F, H, W) bool, true where latents of `shape` (B, C, F, H, W) are given and not made; None is nowhere.

        What is given bears no noise and no loss. The family's `velocity` puts it into what the denoiser sees and points
        straight at it, (noisy - given) / sigma, so that any sampler ends on it.
        """
        return None

    @abc.abstractmethod
    def latent_shape(self, size: VideoSize) -> tuple[int, int, int, int]:
        """(C, F, H, W) of the latents of one clip."""

    @property
    def padding(self) -> int:
        """Latent frames in front that no frame of the video is decoded from."""
        return 0

    @property
    def patch(self) -> tuple[int, int, int]:
        """Latents over frames, height and width that make one token."""
        return (1, 1, 1)

    def tokens(self, shape: Sequence[int]) -> int:
        """Tokens of one clip with latents (C, F, H, W), its prompt's not counted."""
        return math.prod(size // patch for size, patch in zip(shape[1:], self.patch, strict=True))

    @abc.abstractmethod
    def legal(self, size: VideoSize) -> VideoSize:
        """The nearest size the model takes."""

    @abc.abstractmethod
    def sigmas(self, steps: int, shape: Sequence[int]) -> Tensor:
        """(steps + 1,) the family's own schedule with its shift, decreasing from `path.start` to `path.finish`.

        `shape` is the (C, F, H, W) of the latents: some families shift by how many tokens there are.
        """

    @abc.abstractmethod
    def velocity(self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        """ONE model call, no guidance: (B, C, F, H, W), (B,) -> canonical velocity (B, C, F, H, W)."""

    @abc.abstractmethod
    def encode(self, videos: Tensor) -> Tensor:
        """Videos (B, F, 3, H, W) in [0, 1] -> normalised latents (B, C, F', H', W'), fp32."""

    @abc.abstractmethod
    def unnormalised(self, latents: Tensor) -> Tensor:
        """Normalised latents as the VAE takes them, on its device and in its precision; differentiable."""

    @property
    def decoder(self) -> VideoDecoder:
        """The VAE's decoder in pieces along time."""
        return decoder_of(self.pipeline.vae)

    def decode(self, latents: Tensor, *, frames: Sequence[int] | None = None) -> Tensor:
        """Normalised latents -> videos (B, F, 3, H, W) in [0, 1]; differentiable, all activations kept.

        `training.staged_decode` takes the gradient in memory that does not grow with the clip.

        Args:
            latents: (B, C, F', H', W').
            frames: decode these frames alone, in this order, and no more pieces than they need: a causal VAE's up to
                the last of them, a VAE of single frames' own. None for all.
        Raises:
            ReelignError: a frame that the clip does not have.
        """
        raw = self.unnormalised(latents)
        pixels = self.decoder.whole(raw) if frames is None else self.decoder.frames(raw, frames)
        return to_video(pixels).clamp(0, 1)

    def enable_activation_checkpointing(self, *, keep_attention: bool = False) -> None:
        """Keep no activations inside the denoisers' blocks but run them again in the backward pass: less memory, about
        one third more time, the same gradients. Forwards without gradients are as before.

        With `keep_attention` what attention gives is kept: over long sequences most of the time for some of the memory.
        """
        denoisers: Any = self.denoisers.values()
        for denoiser in denoisers:
            denoiser.enable_gradient_checkpointing(run_again_but_attention if keep_attention else run_again)

    @classmethod
    def original_lora_names(cls, layers: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adapter weights of `save_lora_weights` under the key names of the model's original code (ComfyUI's)."""
        raise ReelignError(
            f"{cls.__name__} adapters cannot be written under original key names.", "Export format=diffusers."
        )

    def check(self, size: VideoSize) -> None:
        """Refuse a size the model would change in silence, naming the nearest legal one."""
        nearest = self.legal(size)
        if nearest != size:
            raise ReelignError(f"{self.model} cannot make {size}.", f"The nearest size it can make is {nearest}.")

    def guided_velocity(
        self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning, guidance: Guidance
    ) -> Tensor:
        """Classifier-free guidance in the family's own style; by default one pass for each side."""
        positive = self.velocity(noisy_latents, sigma, conditioning)
        if not guidance.active or guidance.negative is None:
            return positive
        negative = self.velocity(noisy_latents, sigma, guidance.negative)
        return negative + guidance.scale * (positive - negative)

    @torch.no_grad()
    def sample(
        self,
        conditioning: Conditioning,
        seeds: list[int],
        size: VideoSize,
        *,
        steps: int,
        guidance: Guidance,
        steer: Steering | None = None,
    ) -> Tensor:
        """Latents (B, C, F, H, W) of one video per seed, by the Euler sampler on the family's own schedule.

        `steer` bends the velocity after classifier-free guidance.
        """
        shape = self.latent_shape(size)
        noise = initial_noise((len(seeds), *shape), seeds, self.device)

        def velocity(noisy_latents: Tensor, sigma: Tensor) -> Tensor:
            return self.guided_velocity(noisy_latents, sigma, conditioning, guidance)

        sigmas = self.sigmas(steps, shape).to(self.device)
        bent = velocity if steer is None else steer(velocity, sigmas, conditioning)
        latents = sample_euler(bent, self.path.start(noise, sigmas[0]), sigmas)
        return self.path.finish(latents, sigmas[-1])


def to_video(pixels: Tensor) -> Tensor:
    """A VAE's pixels (B, 3, F, H, W), about [-1, 1], as a video (B, F, 3, H, W), about [0, 1], in at least fp32."""
    wide = pixels if pixels.dtype == torch.float64 else pixels.float()
    return ((wide + 1) / 2).transpose(1, 2)


def fingerprint(model: str) -> str:
    """12 hex digits that change when a model's files do.

    A folder's are of its components' files: name, size and first and last MiB of each. A changed weight changes them in
    practice, and a 28 GB checkpoint takes no minute to read. A hub id's is of the commit in the local cache. What a
    `reelign.json` says beside size, steps and scale, which are recorded with every video, counts too.
    """
    digest = hashlib.sha256()
    folder = Path(model)
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache

        # .../snapshots/<commit>/model_index.json
        cached = try_to_load_from_cache(model, "model_index.json")
        digest.update(f"{model}@{Path(cached).parent.name if isinstance(cached, str) else 'main'}".encode())
        return digest.hexdigest()[:12]
    for path in _model_files(folder):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)}:{size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
            if size > 1 << 20:
                file.seek(max(1 << 20, size - (1 << 20)))
                digest.update(file.read())
    beside = folder / DEFAULTS_FILE
    values: dict[str, Any] = json.loads(beside.read_text()) if beside.is_file() else {}
    recorded = {field.name for field in fields(SamplingDefaults)}
    if further := {name: value for name, value in values.items() if name not in recorded}:
        digest.update(json.dumps(further, sort_keys=True).encode())
    return digest.hexdigest()[:12]


def _model_files(folder: Path) -> list[Path]:
    """What makes the videos; prompts, settings and notes that lie in the folder too are no part of the model."""
    index = folder / "model_index.json"
    parts = json.loads(index.read_text()) if index.is_file() else {path.name for path in folder.iterdir()}
    files = (path for part in parts for path in (folder / part, *(folder / part).rglob("*")) if path.is_file())
    return sorted([*files, *([index] if index.is_file() else [])])
