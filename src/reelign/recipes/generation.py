"""Generate: candidates for every prompt of a split, kept as videos for people and latents for training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from reelign.diffusion.seeds import seed_from
from reelign.errors import ReelignError
from reelign.files import whole
from reelign.generators.base import Conditioning, Generator, Guidance, VideoSize
from reelign.records import Prompt, Video, Workspace, content_key, prompt_content
from reelign.training.asked import against, check_images, encode_asked
from reelign.training.latent_guide import GuideSettings, LatentGuide, guide_content, open_guide
from reelign.training.long_rollouts import Made, check_segments, sample_videos
from reelign.video import write_video
from reelign.video.long_clips import LongClip

ENCODED_AT_ONCE = 16
"""Prompts that go through the text encoder together."""


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


class Candidates:
    """Samples candidates, with their prompts, and images where they have them, encoded a few at a time as they come.

    A text encoder's activations of a thousand prompts fit nowhere, and neither do its embeddings on a full device. The
    prompts are cut into parts of fixed bounds, so that an embedding does not depend on what was sampled before; prompts
    that come in the order they were given are encoded once.
    """

    def __init__(
        self, generator: Generator, sampling: Sampling, prompts: list[str], *, guide: LatentGuide | None = None
    ) -> None:
        self.generator = generator
        self.sampling = sampling
        self.guide = guide
        self.texts = list(dict.fromkeys(prompts))
        self.row = {text: index for index, text in enumerate(self.texts)}
        self._held: dict[int, Conditioning] = {}
        """The parts that the last batch was of."""
        check_images(generator, self.texts)
        self.negative = generator.encode_prompts([sampling.negative_prompt])

    def sample(self, prompts: list[str], seeds: list[int]) -> Tensor:
        """Latents of one video per prompt and seed, of one segment."""
        own, guidance = self._sides(prompts)
        sampling = self.sampling
        latents = self.generator.sample(
            own, seeds, sampling.size, steps=sampling.steps, guidance=guidance, steer=self.guide
        )
        self._warn()
        return latents

    def make(self, prompts: list[str], seeds: list[int]) -> Made:
        """One video per prompt and seed, of as many segments as are asked for."""
        own, guidance = self._sides(prompts)
        sampling = self.sampling
        made = sample_videos(
            self.generator,
            own,
            seeds,
            sampling.size,
            steps=sampling.steps,
            guidance=guidance,
            segments=sampling.segments,
            steer=self.guide,
        )
        self._warn()
        return made

    def _sides(self, prompts: list[str]) -> tuple[Conditioning, Guidance]:
        own = self.encoded(prompts)
        return own, self.sampling.guidance(against(own, self.negative))

    def _warn(self) -> None:
        if self.guide is not None:
            self.guide.log.warn()

    def encoded(self, prompts: list[str]) -> Conditioning:
        """A row for each prompt, of which all were given at the beginning."""
        rows = [self.row[text] for text in prompts]
        held, self._held = self._held, {}
        for part in sorted({row // ENCODED_AT_ONCE for row in rows}):
            texts = self.texts[part * ENCODED_AT_ONCE : (part + 1) * ENCODED_AT_ONCE]
            self._held[part] = held[part] if part in held else encode_asked(self.generator, texts, self.sampling.size)
        return Conditioning.cat(
            [self._held[row // ENCODED_AT_ONCE].take(torch.tensor([row % ENCODED_AT_ONCE])) for row in rows]
        )


@dataclass(frozen=True)
class Generated:
    """What a call of `generate` did."""

    videos: list[Video]
    """All that was wanted and is there, ordered by prompt and place."""
    made: int
    already_there: int
    failed: tuple[str, ...]
    """Prompt and seed of each sample that came out not finite."""


def generate(workspace: Workspace, generator: Generator, settings: GenerateSettings, *, adapter: str = "") -> Generated:
    """Sample what the workspace does not have yet; interrupted, it goes on where it stopped.

    A recorded video whose file is gone or was changed is made again, under the same id.

    Args:
        workspace: holds the prompts and takes the videos.
        generator: with the adapter loaded, if `adapter` names one.
        settings: what to sample.
        adapter: the name recorded with the videos; '' for the base.
    Raises:
        ReelignError: the split has no prompts, or such as the model does not take (`check_images`), or the model cannot
            make that size.
    """
    prompts = {prompt.id: prompt for prompt in workspace.prompts(settings.split)}
    asked = {key: workspace.asked(prompt) for key, prompt in prompts.items()}
    if not prompts:
        raise ReelignError(
            f"The workspace has no prompts in split {settings.split!r}.",
            "Add some: reelign init FOLDER --prompts prompts.txt",
        )
    sampling = Sampling.resolve(settings, generator)
    how = {**sampling.as_dict(), **guide_content(settings.guide)}
    wanted = [
        _planned(prompt, asked[prompt.id], index, generator, adapter, sampling, how, settings.seed)
        for prompt in prompts.values()
        for index in range(settings.candidates)
    ]
    ids = {video.id for _, video in wanted}
    known = [video for video in workspace.videos(settings.split, adapter) if video.id in ids]
    damaged = {video.id for video in known if not workspace.has_file(video)}
    whole = {video.id for video in known} - damaged
    missing = [(text, video) for text, video in wanted if video.id not in whole]
    guide = open_guide(settings.guide, generator) if missing else None
    candidates = Candidates(generator, sampling, [text for text, _ in missing], guide=guide)
    failed: list[str] = []
    made = 0
    with tqdm(total=len(wanted), initial=len(wanted) - len(missing), desc="generate", unit="video") as bar:
        for start in range(0, len(missing), settings.batch_size):
            chunk = missing[start : start + settings.batch_size]
            videos = _make(workspace, candidates, chunk, failed)
            workspace.renew_videos(video for video in videos if video.id in damaged)
            made += len(videos)
            bar.update(len(chunk))
    there = [video for video in workspace.videos(settings.split, adapter) if video.id in ids]
    return Generated(videos=there, made=made, already_there=len(wanted) - len(missing), failed=tuple(failed))


def _planned(
    prompt: Prompt,
    asked: str,
    index: int,
    generator: Generator,
    adapter: str,
    sampling: Sampling,
    how: dict[str, Any],
    seed: int,
) -> tuple[str, Video]:
    """What is asked for and the record of a video to be made. Its seed depends on prompt and place alone, so that base
    and aligned pair."""
    own_seed = seed_from(seed, prompt.text, index)
    key = content_key(generator.identity, adapter, prompt_content(asked), prompt.split, own_seed, how)
    video = Video(
        id=key,
        prompt_id=prompt.id,
        generator=generator.identity,
        adapter=adapter,
        seed=own_seed,
        index=index,
        settings=how,
        path=f"videos/{key}.mp4",
        fps=sampling.fps,
        num_frames=sampling.num_frames,
        height=sampling.size.height,
        width=sampling.size.width,
    )
    return asked, video


def _make(
    workspace: Workspace, candidates: Candidates, chunk: list[tuple[str, Video]], failed: list[str]
) -> list[Video]:
    """Sample, decode and write one batch, then record it in one transaction."""
    found = candidates.make([text for text, _ in chunk], [video.seed for _, video in chunk])
    pixels, latents = found.videos.cpu(), found.latents
    long = candidates.sampling.segments > 1
    shard = f"latents/{content_key([video.id for _, video in chunk])}.safetensors"
    kept: dict[str, Tensor] = {}
    made: list[Video] = []
    for row, (text, video) in enumerate(chunk):
        if not bool(torch.isfinite(latents[row]).all()) or not bool(torch.isfinite(pixels[row]).all()):
            failed.append(f"{text!r} with seed {video.seed}")
            continue
        write_video(workspace.root / video.path, pixels[row], video.fps)
        if not long:  # one segment's latents are not those of the whole
            kept[video.id] = latents[row].cpu().contiguous()
            video.latents, video.latents_key = shard, video.id
        video.created = datetime.now(UTC)  # after its file, so that a change of the file is later
        made.append(video)
    if kept:
        write_tensors(workspace.root / shard, kept)
    if made:
        workspace.add_videos(made)
    return made


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all."""
    with whole(path) as beside:
        save_file(tensors, beside)
