"""Online alignment: a policy learns from what a judge says of its own videos (OnlineVPO, arXiv:2412.15159)."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelign.generators.base import Generator
from reelign.generators.encoders import VAE, holding
from reelign.recipes.data.real_clips import load_real, real_content, real_stream
from reelign.recipes.dry_run import RunOutlook, dry_run_on_prompts
from reelign.recipes.offline.align import ADAPTER_FOLDER, Aligned
from reelign.recipes.online.checks import check_online, check_opened, feedback_settings
from reelign.recipes.online.feedback import Feedback, RewardFeedback, open_feedback
from reelign.recipes.online.rollouts import Rollouts
from reelign.recipes.online.settings import OnlineSettings
from reelign.recipes.online.step import OnlineStep, Settles
from reelign.recipes.online.stream import OnlineStream
from reelign.recipes.run_config import check_claim, claim_run, model_content
from reelign.recipes.samples import SampleVideos
from reelign.recipes.sampling import GenerateSettings, Sampling, refuse_guide, refuse_segments
from reelign.recipes.steps.objective import objective_step
from reelign.recipes.watching.watch import Watch, make_watch
from reelign.records import Workspace, content_key, prompt_content
from reelign.training import ALONE, Monitor, Policy, Ranks, ShuffledStream, Trainer, VideoBatch
from reelign.training.caches import cached_sides
from reelign.training.checkpoints import checkpoint_folders
from reelign.training.reference_policy import Gated, ReferenceMoves, Scores
from reelign.training.rollouts import Sampler
from reelign.training.sharding import wanted_by_launcher
from reelign.training.trackers import Trackers


def align_online(
    workspace: Workspace,
    generator: Generator,
    settings: OnlineSettings,
    *,
    sampling: GenerateSettings | None = None,
    limit: int | None = None,
    feedback: Feedback | None = None,
    ranks: Ranks = ALONE,
) -> Aligned:
    """Train an adapter on videos that the policy makes of the workspace's prompts; a stopped run goes on.

    Args:
        workspace: brings the prompts, and takes the run's folder.
        generator: the base; it carries the trained adapter afterwards.
        settings: the judge, the objective and how to optimise it.
        sampling: the `generate` section, under what `settings.rollout` says; None takes the model's own defaults.
        limit: at most so many prompts.
        feedback: a judge that is open already, in the place of `settings.judge`.
        ranks: the processes that train together; `prompts` are those of each.
    Raises:
        ReelignError: no prompts, an unknown judge, a size that the model cannot make, or a run's name that is taken.
    """
    refuse_guide(sampling)
    prompts = check_online(workspace, generator, settings, limit)
    how = Sampling.resolve(settings.rollout.over(sampling or GenerateSettings()), generator)
    refuse_segments(how, "Online alignment")
    looks = Sampling.resolve(sampling or GenerateSettings(), generator)
    folder = workspace.root / "runs" / settings.run
    content = {**model_content(generator), "data": _data_key(settings, prompts, how), "align": asdict(settings)}
    feedback = feedback or open_feedback(settings.judge, feedback_settings(settings))
    check_opened(settings, feedback)
    with ranks.first():
        if ranks.main:
            check_claim(folder, content, OnlineSettings)
        texts = workspace.root / "cache" / "text"
        sides = cached_sides(prompts, how.negative_prompt, generator, texts, how.size)
        samples = _samples(workspace, generator, settings, prompts, looks)
        watch = _watch(workspace, generator, settings, feedback, how, folder)
        real = _real(workspace, generator, settings, ranks)
    references = ReferenceMoves(settings.reference, look=None if watch is None else _held_out(watch))
    policy = Policy(
        generator,
        settings.lora,
        seed=settings.seed,
        reference=True,
        moving=references.moving,
        experts=settings.experts,
        ranks=ranks,
        sharded=settings.trainer.sharded or wanted_by_launcher(),
    )
    batch_size = settings.rollout.batch_size or (sampling or GenerateSettings()).batch_size
    sampler = Sampler(how.size, how.steps, how.guidance_scale, sides, batch_size, how.guidance_scale_2)
    rollouts = Rollouts(policy, sampler, feedback, settings, prompts, fps=how.fps)
    stream = OnlineStream(rollouts, folder, real=real)
    elements = torch.Size(generator.latent_shape(how.size)).numel()
    step = OnlineStep(objective_step(settings, elements), settings)
    if ranks.main:
        claim_run(folder, content, OnlineSettings)
    trackers = Trackers(settings.trackers if ranks.main else (), folder, content)
    return _trained(stream, step, folder, trackers, references, [watch] if watch else [], samples)


def _trained(
    stream: OnlineStream,
    step: OnlineStep,
    folder: Path,
    wanted: Trackers,
    references: ReferenceMoves,
    watch: list[Watch],
    samples: list[SampleVideos],
) -> Aligned:
    """Run the loop with all that looks on, and save what it came to: the best look's weights after a roll-back."""
    policy, settings = stream.policy, stream.settings
    onlookers: list[SampleVideos | Watch] = [*samples, *watch]
    with ExitStack() as held:
        trackers = held.enter_context(wanted)
        if stream.feedback.reads_pixels or watch:
            held.enter_context(holding(policy.generator, VAE))
        for each in onlookers:
            each.trackers = trackers
            each.begin(policy)
        if not checkpoint_folders(folder / "checkpoints"):
            references.begin(policy)
        settles = [Settles(stream)] if settings.ahead else []
        monitors: list[Monitor] = [*settles, *watch, references, *samples, trackers]
        title = f"align {settings.run}"
        trainer = Trainer(policy, stream, step, settings.trainer, folder, title=title, monitors=monitors)
        started_from = trainer.train()
    if not any(each.restore(policy) for each in watch) and trainer.ema:
        policy.load_state_dict(trainer.ema)
    policy.save(folder / ADAPTER_FOLDER)
    made = stream.counts.samples
    return Aligned(folder, folder / ADAPTER_FOLDER, made, stream.counts.left_out(), started_from, trainer.verdict())


def dry_run_online(
    workspace: Workspace,
    generator: Generator,
    settings: OnlineSettings,
    *,
    sampling: GenerateSettings | None = None,
    limit: int | None = None,
    anew: bool = False,
) -> RunOutlook:
    """What `align_online` would do with the same arguments; no weights of a judge are loaded.

    Raises:
        ReelignError: whatever can be refused so.
    """
    refuse_guide(sampling)
    check_online(workspace, generator, settings, limit)
    over = settings.rollout.over(sampling or GenerateSettings())
    how = Sampling.resolve(over, generator)
    refuse_segments(how, "Online alignment")
    videos = settings.prompts * settings.rollout.candidates
    forwards = videos * how.steps * generator.passes(how.guidance_scale)
    fresh = "the policy as it stands" if settings.rollouts == "fresh" else "the base"
    told = (
        f"  {settings.objective.name} on what {settings.judge} says of the videos of {fresh}; reference: "
        f"{settings.reference.name}",
        f"  a rollout: {settings.prompts} prompts x {settings.rollout.candidates} candidates of {how.size}, "
        f"{how.steps} steps, {forwards:,} forwards; at most "
        f"{settings.prompts * settings.selection.top} pairs, trained on {settings.reuse} times",
        f"  over the run {-(-settings.trainer.steps // settings.reuse) * videos:,} videos are sampled and judged",
    )
    return dry_run_on_prompts(workspace, generator, settings, sampling=over, limit=limit, anew=anew, told=told)


def _data_key(settings: OnlineSettings, prompts: list[str], how: Sampling) -> str:
    """Changes with what the videos are made of, and with real clips."""
    real = real_content(settings.real, settings.images) if settings.real else []
    return content_key([prompt_content(prompt) for prompt in prompts], how.as_dict(), *real)


def _samples(
    workspace: Workspace, generator: Generator, settings: OnlineSettings, prompts: list[str], how: Sampling
) -> list[SampleVideos]:
    if not settings.samples.every:
        return []
    texts = settings.samples.texts(workspace, prompts)
    sides = cached_sides(texts, how.negative_prompt, generator, workspace.root / "cache" / "text", how.size)
    folder = workspace.root / "runs" / settings.run
    return [SampleVideos(folder, how, settings.samples, texts, sides)]


def _watch(
    workspace: Workspace,
    generator: Generator,
    settings: OnlineSettings,
    feedback: Feedback,
    how: Sampling,
    folder: Path,
) -> Watch | None:
    """The watch, where it looks or a gated reference asks it to."""
    gated = isinstance(settings.reference, Gated)
    if not settings.watch.every and not gated:
        return None
    scores = isinstance(feedback, RewardFeedback)
    return make_watch(
        workspace,
        generator,
        settings.watch,
        training=feedback.reward if isinstance(feedback, RewardFeedback) else None,
        judges=() if scores else feedback.name.split(", "),
        sampling=how,
        folder=folder,
        title=f"align {settings.run}",
    )


def _held_out(watch: Watch) -> Any:
    """How a gated reference sees the policy: the watch's scores that training does not see, and each one's prompt."""

    def look(policy: Policy) -> tuple[Scores, Tensor]:
        found = watch.look(policy)
        return found.held_out, found.clusters

    return look


def _real(
    workspace: Workspace, generator: Generator, settings: OnlineSettings, ranks: Ranks
) -> ShuffledStream[VideoBatch] | None:
    """Real clips in an order and with draws of their own, as many as there are prompts in a step."""
    if not settings.anchors.real:
        return None
    cache = workspace.root / "cache"
    clips = load_real(settings.real, settings.images, generator, cache)
    return real_stream(clips, generator, cache, batch_size=settings.prompts * ranks.count, seed=settings.seed)
