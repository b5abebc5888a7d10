"""Alignment by a reward's gradient: prompts, rollouts whose last steps carry gradient, the one Trainer."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.generators.base import Generator
from reelign.generators.encoders import VAE, holding, image_encoders
from reelign.recipes.data.real_clips import RealClips, check_real, clips_content, load_real, read_real, real_stream
from reelign.recipes.data.shared_prompts import prompts_beside, training_prompts, warn_of_shared
from reelign.recipes.dry_run import RunOutlook, dry_run_on_prompts
from reelign.recipes.offline.align import ADAPTER_FOLDER, Aligned
from reelign.recipes.offline.samples import check_precision
from reelign.recipes.reward_gradient.latent import LatentLoss, check_latent, folder_of, latent_content, open_latent
from reelign.recipes.reward_gradient.scoring import PixelLoss, check_choice, open_choice, weights_of
from reelign.recipes.reward_gradient.segments import check_long, long_frames
from reelign.recipes.reward_gradient.settings import RewardGradientSettings
from reelign.recipes.reward_gradient.step import RewardGradientStep, chosen_frames, route_for, schedule
from reelign.recipes.reward_gradient.stream import rollout_stream
from reelign.recipes.run_config import check_claim, claim_run, model_content
from reelign.recipes.samples import SampleVideos
from reelign.recipes.sampling import GenerateSettings, Sampling, refuse_guide
from reelign.recipes.steps.draws import check_sigma_range
from reelign.recipes.steps.video import AnchoredStream, DataAnchorStep
from reelign.recipes.watching.watch import Watch, make_watch
from reelign.records import FileVideo, Workspace, content_key, prompt_content
from reelign.training import ALONE, Monitor, Policy, Ranks, Step, Stream, Trainer
from reelign.training.asked import check_images
from reelign.training.caches import cached_prompts, cached_sides, cached_texts
from reelign.training.lora import check_targets
from reelign.training.policy import check_experts
from reelign.training.sharding import wanted_by_launcher
from reelign.training.trackers import Trackers, check_trackers


def align_by_reward_gradient(
    workspace: Workspace,
    generator: Generator,
    settings: RewardGradientSettings,
    *,
    sampling: GenerateSettings | None = None,
    limit: int | None = None,
    ranks: Ranks = ALONE,
) -> Aligned:
    """Train an adapter on a reward's gradient; a stopped run goes on.

    Args:
        workspace: brings the training prompts and takes the run's folder.
        generator: the base; it carries the trained adapter afterwards.
        settings: the reward, and how its gradient is taken.
        sampling: the `generate` section; None takes the model's own defaults.
        limit: at most so many prompts, and so many real clips.
        ranks: the processes that train together; `batch_size` is that of each.
    Raises:
        ReelignError: a reward without a gradient, more steps with gradient than there are, frames outside the clip, no
            prompts, or a run's name that is taken by one with other settings.
    """
    refuse_guide(sampling)
    how = Sampling.resolve(settings.rollout.over(sampling or GenerateSettings()), generator)
    finished = Sampling.resolve(sampling or GenerateSettings(), generator)
    check_reward_gradient(generator, settings, how)
    folder = workspace.root / "runs" / settings.run
    with ranks.first():
        prompts = training_prompts(workspace, limit)
        check_images(generator, prompts)
        real = real_of(settings, limit)
        edited = settings.edit_from is not None
        warn_of_shared(prompts_beside(real, () if edited else prompts), workspace.asked_in("held_out"))
        loss = _loss(generator, settings, how)
        content = run_content(generator, settings, how, prompts, real, loss)
        if ranks.main:
            check_claim(folder, content, RewardGradientSettings)
        together = replace(settings, batch_size=settings.batch_size * ranks.count)
        step, stream = _parts(workspace, generator, together, how, prompts, loss, limit)
        watch = _watch(workspace, generator, settings, loss, finished, folder)
        samples = _samples(workspace, generator, settings, prompts, finished)
    policy = Policy(
        generator,
        settings.lora,
        seed=settings.seed,
        reference=bool(settings.objective.reference or samples or watch),
        experts=settings.experts,
        ranks=ranks,
        sharded=settings.trainer.sharded or wanted_by_launcher(),
    )
    if ranks.main:
        # Last, so that whatever is refused leaves no run of that name behind.
        claim_run(folder, content, RewardGradientSettings)
    trackers = Trackers(settings.trackers if ranks.main else (), folder, content)
    decodes = isinstance(loss, PixelLoss) or bool(watch)
    # Segments after the first go on from frames that are read as their prompts' images were.
    needed = [] if not decodes else [VAE] if how.segments == 1 else list(image_encoders(generator))
    with holding(generator, *needed):
        trainer, started_from = _trained(policy, stream, step, settings, folder, trackers, [*samples, *watch])
    for each in watch:
        each.restore(policy)
    policy.save(folder / ADAPTER_FOLDER)
    return Aligned(folder, folder / ADAPTER_FOLDER, len(prompts), {}, started_from, trainer.verdict())


def _trained(
    policy: Policy,
    stream: Stream[Any],
    step: Step[Any],
    settings: RewardGradientSettings,
    folder: Path,
    wanted: Trackers,
    lookers: list[SampleVideos | Watch],
) -> tuple[Trainer[Any], int]:
    """Run the loop with all that looks on, its average in the policy; the trainer, and the step it went on from."""
    with wanted as trackers:
        for each in lookers:
            each.trackers = trackers
            each.begin(policy)
        monitors: list[Monitor] = [*lookers, trackers]
        title = f"align {settings.run}"
        trainer = Trainer(policy, stream, step, settings.trainer, folder, title=title, monitors=monitors)
        started_from = trainer.train()
    if trainer.ema:
        policy.load_state_dict(trainer.ema)
    return trainer, started_from


def check_reward_gradient(generator: Generator, settings: RewardGradientSettings, sampling: Sampling) -> None:
    """Refuse what can be refused before anything is opened.

    Raises:
        ReelignError: as `align_by_reward_gradient`.
    """
    check_trackers(settings.trackers)
    latent = folder_of(settings)
    if latent is None:
        check_choice(settings.reward)
        _check_vae(generator)
    else:
        check_latent(latent, generator, settings)
    check_precision(generator)
    check_experts(generator, settings.experts)
    if settings.lora is not None:
        check_targets(generator, settings.lora)
    if settings.data_anchor or settings.objective.reference:
        check_sigma_range(settings.anchor_steps(), generator)
    check_long(generator, settings, sampling)
    if settings.real:
        check_real(generator, settings.real, settings.images)
    if sampling.segments == 1:
        settings.frames.check(sampling.size.num_frames)
    route_for(generator, settings, sampling, generator_from(settings.seed, "check"))
    _check_trained(generator, settings, sampling)


def _check_trained(generator: Generator, settings: RewardGradientSettings, sampling: Sampling) -> None:
    """Refuse a gradient that may begin at a step of an expert that does not train: nothing there has a graph."""
    if not settings.experts or set(settings.experts) == set(generator.denoisers):
        return
    sigmas = schedule(generator, settings, sampling)
    rows = generator.expert_rows(sigmas[:-1])
    trained = torch.stack([rows[name] for name in settings.experts]).any(dim=0)
    lost = [place for place in settings.gradient.beginnings(sigmas) if not trained[place]]
    if lost:
        own = [str(place + 1) for place in range(len(trained)) if trained[place]]
        raise ReelignError(
            f"The gradient would begin at step {lost[0] + 1} of {len(trained)}, which is taken by an expert that "
            f"experts=[{', '.join(settings.experts)}] does not train.",
            f"Let it begin (gradient.steps, gradient.window) at one of the steps that are: {', '.join(own) or 'none'}. "
            "Or train the other expert too.",
        )


def _vae_dtype(generator: Generator) -> torch.dtype:
    vae: nn.Module = generator.pipeline.vae
    return next(vae.parameters()).dtype


def _check_vae(generator: Generator) -> None:
    """Refuse to take a reward's gradient through a decoder in float16."""
    if _vae_dtype(generator) == torch.float16:
        raise ReelignError(
            f"The VAE of {generator.model} is in float16, in which a reward's small gradients vanish.",
            "Load it in a range that holds them: model.vae_dtype=bfloat16, or float32.",
        )


def run_content(
    generator: Generator,
    settings: RewardGradientSettings,
    sampling: Sampling,
    prompts: list[str],
    real: list[FileVideo],
    loss: PixelLoss | LatentLoss,
) -> dict[str, Any]:
    """All that decides what a run comes to."""
    asked = [prompt_content(prompt) for prompt in prompts]
    data = content_key(asked, sampling.as_dict(), *clips_content(real))
    content = {**model_content(generator), "data": data, **latent_content(settings)}
    if isinstance(loss, PixelLoss):
        # The decoder's rounding is in every gradient, and a reward's folder may be trained again.
        content["vae"] = str(_vae_dtype(generator)).removeprefix("torch.")
        content["reward_version"] = loss.reward.version
    return {**content, "align": asdict(settings)}


def real_of(settings: RewardGradientSettings, limit: int | None) -> list[FileVideo]:
    """The real clips that are trained on, at most `limit`."""
    return read_real(settings.real, settings.images)[:limit] if settings.real else []


def plan_reward_gradient(
    workspace: Workspace,
    generator: Generator,
    settings: RewardGradientSettings,
    *,
    sampling: GenerateSettings | None = None,
    limit: int | None = None,
    anew: bool = False,
) -> RunOutlook:
    """What `align_by_reward_gradient` would do: sizes, schedule and frames are looked at, nothing is opened or run.

    Raises:
        ReelignError: whatever it would refuse of these.
    """
    refuse_guide(sampling)
    given = settings.rollout.over(sampling or GenerateSettings())
    how = Sampling.resolve(given, generator)
    check_reward_gradient(generator, settings, how)
    sides = "two calls" if generator.passes(how.guidance_scale) > 1 else "one call"
    again = ", each of them run again on the way back" if settings.graph == "step" else ""
    real = real_of(settings, limit)
    sigmas = schedule(generator, settings, how)
    at = settings.gradient.beginnings(sigmas)
    first, last = (f"{float(sigmas[place]):.3g}" for place in (at.start, at.stop - 1))
    told = (
        f"  the gradient of {settings.reward.name} through {_length(settings)} of {len(sigmas) - 1} steps, {sides} of "
        f"the denoiser a step{again}",
        f"  a rollout begins at noise level {float(sigmas[0]):.3g} and carries gradient from "
        + (f"{first} on" if first == last else f"one drawn between {first} and {last} on"),
        *_long_told(settings, how),
        *_real_told(settings, real),
        *(() if folder_of(settings) is None else ("  the reward reads latents: nothing is decoded for it",)),
    )
    return dry_run_on_prompts(
        workspace,
        generator,
        settings,
        sampling=given,
        limit=limit,
        anew=anew,
        told=told,
        real=real,
        edited=settings.edit_from is not None,
    )


def _real_told(settings: RewardGradientSettings, real: list[FileVideo]) -> tuple[str, ...]:
    if not real:
        return ()
    how = "whose denoising errors are added" if settings.edit_from is None else "noised, in place of noise"
    return (f"  beside them {len(real)} real clips of {settings.real}, {how}",)


def _long_told(settings: RewardGradientSettings, sampling: Sampling) -> tuple[str, ...]:
    if sampling.segments == 1:
        return ()
    through = "all of them" if settings.through == "all" else "the last of them"
    return (
        f"  a video has {sampling.segments} segments and {sampling.num_frames} frames, each segment going on from the "
        f"last frame of the one before; the gradient goes through {through}",
    )


def _length(settings: RewardGradientSettings) -> str:
    gradient = settings.gradient
    match gradient.name:
        case "last":
            return f"the last {gradient.steps}" if gradient.steps > 1 else "the last"
        case "random":
            return "a random number of the last"
        case "renoised":
            return f"the last, {gradient.times} times"
        case "one_step":
            return "a random late one"
        case "noisy":
            return "any one"


def _loss(generator: Generator, settings: RewardGradientSettings, sampling: Sampling) -> PixelLoss | LatentLoss:
    """The reward, opened, as what is trained on."""
    latent = folder_of(settings)
    if latent is not None:
        return open_latent(latent, generator, settings)
    reward = open_choice(settings.reward)
    weights = weights_of(settings.objective, reward)
    return PixelLoss(reward, settings.objective, weights, settings.frames, sampling.fps)


def _parts(
    workspace: Workspace,
    generator: Generator,
    settings: RewardGradientSettings,
    sampling: Sampling,
    prompts: list[str],
    loss: PixelLoss | LatentLoss,
    limit: int | None,
) -> tuple[Step[Any], Stream[Any]]:
    """The step and its batches, anchors beside them."""
    cache = workspace.root / "cache"
    texts = cache / "text"
    negative = cached_texts([sampling.negative_prompt], generator, texts)
    climb = RewardGradientStep(loss, settings, sampling, negative)
    if isinstance(loss, PixelLoss):
        # Before the first rollout, not after it: frames that the decode does not give, or too few for the reward.
        chance = generator_from(settings.seed, "check")
        if sampling.segments > 1:
            long_frames(loss, settings, sampling, chance)
        else:
            chosen_frames(loss, generator, settings, generator.latent_shape(sampling.size)[1], chance)
    clips: RealClips | None = None
    if settings.real:
        clips = load_real(settings.real, settings.images, generator, cache, limit=limit)
    edited = clips if settings.edit_from is not None else None
    if edited is not None:
        _check_shape(edited.latents, generator, sampling)
        prompts = [edited.prompts[row] for row in edited.rows]
    stream: Stream[Any] = rollout_stream(
        prompts,
        cached_prompts(prompts, generator, texts, size=sampling.size),
        batch_size=settings.batch_size,
        seed=settings.seed,
        real=None if edited is None else edited.latents,
    )
    if clips is None or not settings.data_anchor:
        return climb, stream
    anchor = real_stream(clips, generator, cache, batch_size=settings.batch_size, seed=settings.seed)
    return DataAnchorStep(climb, settings.anchor_steps()), AnchoredStream(stream, anchor)


def _check_shape(real: Tensor, generator: Generator, sampling: Sampling) -> None:
    shape = generator.latent_shape(sampling.size)
    if tuple(real.shape[1:]) != shape:
        raise ReelignError(
            f"The videos of `real` have latents {tuple(real.shape[1:])}, and rollouts of {sampling.size} have {shape}.",
            "Cut or resize them, or set the size under rollout to theirs.",
        )


def _watch(
    workspace: Workspace,
    generator: Generator,
    settings: RewardGradientSettings,
    loss: PixelLoss | LatentLoss,
    sampling: Sampling,
    folder: Path,
) -> list[Watch]:
    if not settings.watch.every:
        return []
    if isinstance(loss, PixelLoss):
        loss.reward.frames_read(sampling.num_frames)  # refuses looks at videos of other segments than it knows
    return [
        make_watch(
            workspace,
            generator,
            settings.watch,
            # Of what reads no pixels the metrics have the reward; the looks are at what training does not see.
            training=loss.reward if isinstance(loss, PixelLoss) else None,
            judges=() if isinstance(loss, PixelLoss) else (loss.reward.name,),
            sampling=sampling,
            folder=folder,
            title=f"align {settings.run}",
        )
    ]


def _samples(
    workspace: Workspace, generator: Generator, settings: RewardGradientSettings, prompts: list[str], sampling: Sampling
) -> list[SampleVideos]:
    if not settings.samples.every:
        return []
    texts = settings.samples.texts(workspace, prompts)
    cache = workspace.root / "cache" / "text"
    sides = cached_sides(texts, sampling.negative_prompt, generator, cache, sampling.size)
    return [SampleVideos(workspace.root / "runs" / settings.run, sampling, settings.samples, texts, sides)]
