"""What an alignment would do, found out without doing it: nothing is loaded, encoded, trained or written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import nn

from reelign.generators.base import Generator, VideoSize
from reelign.generators.encoders import VAE, encoders, image_encoders, text_encoders
from reelign.recipes.data.clips import Clip, one_size
from reelign.recipes.data.preferences import PreferenceData
from reelign.recipes.data.real_clips import read_real, real_size
from reelign.recipes.data.shared_prompts import prompts_beside, trained_prompts, training_prompts, warn_of_shared
from reelign.recipes.offline.align import ADAPTER_FOLDER
from reelign.recipes.offline.samples import check, drawn_clips, left_out, samples_of, training_clips
from reelign.recipes.run_config import CONFIG_FILE, check_claim, run_content
from reelign.recipes.sampling import GenerateSettings, Sampling
from reelign.recipes.settings import AlignSettings, RunSettings
from reelign.records import FileVideo, Workspace
from reelign.training import Policy
from reelign.training.adapters import WEIGHTS_FILE, expert_files
from reelign.training.asked import check_images
from reelign.training.caches import uncached_images, uncached_latents, uncached_prompts
from reelign.training.checkpoints import checkpoint_folders
from reelign.training.lora import check_targets
from reelign.training.policy import check_experts
from reelign.training.trackers import check_trackers
from reelign.video import probe_video


@dataclass(frozen=True, kw_only=True, slots=True)
class Component:
    """One model of the pipeline and what becomes of it."""

    name: str
    kind: str
    """Its class."""
    nbytes: int
    """Of its weights in memory."""
    used: str
    """`training`, `at times` (loaded to encode or decode and dropped again), or empty: it stays on disk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOutlook:
    """What any run of `align` would do with the same arguments."""

    model: str
    settings: RunSettings
    """As resolved."""
    prompts: int
    latents: tuple[int, ...]
    """(C, F, H, W) of one video."""
    components: list[Component]
    trainable: int
    """Parameters."""
    prompts_to_encode: int
    videos_to_encode: int
    goes_on_from: int
    """Step of the run's newest checkpoint; 0 begins it."""
    files: list[Path]
    """What will have been written at its end."""
    told: tuple[str, ...] = ()
    """Sentences on what is peculiar to the stream."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook(RunOutlook):
    """What `align` would do with stored preferences."""

    settings: AlignSettings
    pairs: int
    left_out: dict[str, int]
    """Ties and other rows that give no pair, by reason."""
    samples: int
    """Pairs or videos that are trained on."""
    held_out: int
    """Pairs that are kept out of training and watched."""

    @property
    def epochs(self) -> float:
        return self.settings.trainer.steps * self.settings.batch_size / self.samples


def dry_run(
    workspace: Workspace,
    generator: Generator,
    settings: AlignSettings,
    data: PreferenceData,
    *,
    sampling: GenerateSettings | None = None,
    anew: bool = False,
) -> Outlook:
    """Look at everything that `align` looks at before its first step.

    Args:
        workspace, settings, data, sampling: as for `align`.
        generator: may be one without weights (`load_generator(weights=False)`).
        anew: the run does not go on with what its folder holds.
    Raises:
        ReelignError: whatever `align` would refuse: no preferences, videos of a wrong size, a run's name that is taken.
    """
    check_trackers(settings.trackers)
    share = settings.monitor.held_out
    kept, held_out = data.split(share, settings.seed) if share else (data, None)
    check(settings, generator, kept)
    warn_of_shared(trained_prompts(settings, kept), workspace.asked_in("held_out"))
    folder = workspace.root / "runs" / settings.run
    if not anew:
        check_claim(folder, run_content(generator, settings, data, drawn_clips(workspace, settings, kept)))
    clips = [*training_clips(workspace, settings, kept), *(held_out.clips if held_out else [])]
    cache = workspace.root / "cache"
    real = read_real(settings.real, settings.images)[: data.limit] if settings.anchors.real else []
    files = [clip.path for clip in clips if clip.shard is None] + [each.video for each in real]
    shown = settings.samples.texts(workspace, data.prompts)
    prompts = [*data.prompts, *(each.prompt for each in real), *shown]
    images, size, real_images = 0, data.image_size(), real_size(real)
    if size is not None:
        images = uncached_images(data.prompts, generator, cache / "text", size)
    if real_images is not None:
        images += uncached_images([each.prompt for each in real], generator, cache / "text", real_images)
    if settings.samples.every:
        how = Sampling.resolve(sampling or GenerateSettings(), generator)
        prompts.append(how.negative_prompt)
        images += uncached_images([] if how.size == size else shown, generator, cache / "text", how.size)
    if settings.empty_prompt_share:
        prompts.append("")
    texts = uncached_prompts(list(dict.fromkeys(prompts)), generator, cache / "text")
    videos = uncached_latents(files, generator, cache / "latents")
    # Of several sizes the commonest stands for all; what is watched must be of one.
    (shape, _), *_ = Counter(_latent_shape(clip, generator) for clip in dict.fromkeys(clips)).most_common()
    one_size({_latent_shape(clip, generator) for clip in (held_out.clips if held_out else [])} or {shape})
    return Outlook(
        model=generator.identity,
        settings=settings,
        pairs=len(data.rows),
        prompts=len(data.prompts),
        left_out=left_out(settings, kept),
        samples=samples_of(workspace, settings, kept),
        held_out=min(len(held_out.rows), settings.monitor.max_pairs) if held_out else 0,
        latents=shape,
        components=_components(
            generator, texts=texts > 0, images=images > 0, videos=videos > 0 or settings.samples.every > 0
        ),
        trainable=_trainable(generator, settings),
        prompts_to_encode=texts + images,
        videos_to_encode=videos,
        goes_on_from=_last_step(folder, anew),
        files=_files(folder, settings, generator),
    )


def dry_run_on_prompts(
    workspace: Workspace,
    generator: Generator,
    settings: RunSettings,
    *,
    sampling: GenerateSettings | None = None,
    limit: int | None = None,
    anew: bool = False,
    told: tuple[str, ...] = (),
    real: Sequence[FileVideo] = (),
    edited: bool = False,
) -> RunOutlook:
    """Look at what a run on the workspace's prompts, which makes its videos itself, looks at before its first step.

    Args:
        workspace, settings: as for its `align`.
        generator: may be one without weights.
        sampling: how its videos are made; None takes the model's own defaults.
        limit: at most so many prompts.
        anew: the run does not go on with what its folder holds.
        told: what to say beside.
        real: clips that it trains on too.
        edited: its videos begin from these, and the workspace's prompts are only looked at.
    Raises:
        ReelignError: no prompts, a size that the model cannot make, a missing tracker.
    """
    check_trackers(settings.trackers)
    check_experts(generator, settings.experts)
    if settings.lora is not None:
        check_targets(generator, settings.lora)
    how = Sampling.resolve(sampling or GenerateSettings(), generator)
    prompts = training_prompts(workspace, limit)
    check_images(generator, prompts)
    trained = prompts_beside(real, () if edited else prompts)
    warn_of_shared(trained, workspace.asked_in("held_out"))
    folder = workspace.root / "runs" / settings.run
    everything = [*trained, how.negative_prompt, *settings.samples.texts(workspace, prompts)]
    cache = workspace.root / "cache" / "text"
    texts = uncached_prompts(list(dict.fromkeys(everything)), generator, cache)
    # Edited clips go on from their images at the size of the rollout, others at their own.
    own_size = None if edited else real_size(real)
    at_own = [each.prompt for each in real] if own_size else []
    others = dict.fromkeys(everything).keys() - set(at_own)
    images = uncached_images(sorted(others), generator, cache, how.size)
    images += uncached_images(at_own, generator, cache, own_size) if own_size else 0
    videos = uncached_latents([each.video for each in real], generator, workspace.root / "cache" / "latents")
    return RunOutlook(
        model=generator.identity,
        settings=settings,
        prompts=len(prompts),
        latents=generator.latent_shape(how.size),
        components=_components(generator, texts=texts > 0, images=images > 0, videos=True),
        trainable=_trainable(generator, settings),
        prompts_to_encode=texts + images,
        videos_to_encode=videos,
        goes_on_from=_last_step(folder, anew),
        files=_files(folder, settings, generator),
        told=told,
    )


def _trainable(generator: Generator, settings: RunSettings) -> int:
    return sum(each.numel() for each in Policy(generator, settings.lora, experts=settings.experts).parameters.values())


def _last_step(folder: Path, anew: bool) -> int:
    checkpoints = [] if anew else checkpoint_folders(folder / "checkpoints")
    return int(checkpoints[-1].name.removeprefix("step-")) if checkpoints else 0


def _components(generator: Generator, *, texts: bool, images: bool, videos: bool) -> list[Component]:
    used = dict.fromkeys(generator.denoisers, "training")
    used |= dict.fromkeys(text_encoders(generator), "at times" if texts else "")
    used |= dict.fromkeys(image_encoders(generator), "at times" if images else "")
    used |= {VAE: "at times" if videos or images else ""}
    models: dict[str, nn.Module] = {**generator.denoisers, **encoders(generator)}
    return [
        Component(
            name=name,
            kind=type(model).__name__,
            nbytes=sum(each.nbytes for each in model.parameters()),
            used=used[name],
        )
        for name, model in models.items()
    ]


def _latent_shape(clip: Clip, generator: Generator) -> tuple[int, ...]:
    if clip.shard is None:
        probe = probe_video(clip.path)
        return generator.latent_shape(VideoSize(probe.num_frames, probe.height, probe.width))
    with safe_open(clip.shard, framework="pt") as file:
        return tuple(file.get_slice(str(clip.key)).get_shape())


def _files(folder: Path, settings: RunSettings, generator: Generator) -> list[Path]:
    trainer = settings.trainer
    saved = sorted({*range(trainer.checkpoint_every, trainer.steps + 1, trainer.checkpoint_every), trainer.steps})
    every = settings.samples.every
    looks = [f"step-{step:06d}.png" for step in range(0, trainer.steps + 1, every)] if every else []
    trained = [name for name in generator.denoisers if not settings.experts or name in settings.experts]
    whole = [f"{name}/{file}" for name in trained for file in ("config.json", WEIGHTS_FILE)]
    adapters = [file for name, file in expert_files(generator, folder / ADAPTER_FOLDER).items() if name in trained]
    return [
        folder / CONFIG_FILE,
        folder / "metrics.jsonl",
        *(folder / "samples" / look for look in looks),
        *(folder / "checkpoints" / f"step-{step:06d}" for step in saved[-trainer.keep_checkpoints :]),
        *(adapters if settings.lora else [folder / ADAPTER_FOLDER / file for file in whole]),
    ]
