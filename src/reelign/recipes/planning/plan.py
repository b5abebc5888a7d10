"""What a run will hold in memory and how often it asks the denoiser, found by running its own code on shapes alone.

No weights, no device and no data are needed: the model's configuration says the sizes, tensors have no values, and the
steps are those that train (`training.memory`). On top of what is counted here come what an allocator leaves unused, a
convolution's workspace and the device's context: 10 to 15 %.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reelign.generators.base import Conditioning, Generator
from reelign.generators.encoders import VAE, encoders, image_encoders, text_encoders
from reelign.objectives import DPO
from reelign.recipes.online.settings import OnlineSettings
from reelign.recipes.planning.gradient import climb, forwards_per_video
from reelign.recipes.planning.memory_plan import MemoryPlan, Stage
from reelign.recipes.planning.mends import mend_for
from reelign.recipes.planning.model import LATENTS, ask_one_expert, nbytes
from reelign.recipes.planning.rewards import planned_reward, refuse_latent, reward_modules
from reelign.recipes.planning.stages import (
    Measured,
    batch_size,
    decode,
    encode_image,
    encode_text,
    encode_video,
    judge,
    learn,
    planned_size,
    roll_out,
)
from reelign.recipes.reward_gradient.align import check_reward_gradient
from reelign.recipes.reward_gradient.settings import RewardGradientSettings
from reelign.recipes.sampling import GenerateSettings, Sampling
from reelign.recipes.settings import AlignSettings, RunSettings, StepSettings
from reelign.rewards.base import Reward
from reelign.rewards.judging import PREFIX
from reelign.training import Policy
from reelign.training.lora import check_targets
from reelign.training.memory import META
from reelign.training.reference_policy import Fixed


@dataclass
class _Planned:
    """What the stages of one plan have in common."""

    generator: Generator
    settings: RunSettings
    sampling: Sampling
    policy: Policy = field(init=False)
    conditioning: Conditioning = field(init=False)
    stages: list[Stage] = field(default_factory=list)
    host: int = 0

    def add(self, name: str, held: dict[str, int], taken: Measured, extra: int = 0) -> Measured:
        by = {**taken.by, LATENTS: taken.by.get(LATENTS, 0) + extra}
        self.stages.append(Stage(name=name, held={k: v for k, v in held.items() if v}, by=by))
        self.host = max(self.host, taken.host)
        return taken


def plan(generator: Generator, settings: RunSettings, sampling: GenerateSettings | None = None) -> MemoryPlan:
    """Predict a run's memory and forwards.

    Args:
        generator: without weights (`load_generator(weights=False)`, `published_generator`); it is spent by the call.
        settings: of `align`, for any stream.
        sampling: the `generate` section; None takes the model's own defaults.
    Raises:
        ReelignError: whatever the run would refuse of these: a size the model cannot make, targets that are not there,
            a reward that is not differentiable.
    """
    rolled = settings.rollout if isinstance(settings, OnlineSettings | RewardGradientSettings) else None
    given = sampling or GenerateSettings()
    how = Sampling.resolve(given if rolled is None else rolled.over(given), generator)
    if settings.lora is not None:
        check_targets(generator, settings.lora)
    if isinstance(settings, RewardGradientSettings):
        refuse_latent(settings.reward.name)
        check_reward_gradient(generator, _without_missing(settings), how)
    planned = _Planned(generator, settings, how)
    denoisers, readers = list(generator.denoisers.values()), list(text_encoders(generator).values())
    weights = {"denoiser's weights": nbytes(*denoisers)}
    planned.conditioning, taken = encode_text(generator, [*denoisers, *readers])
    planned.add("encode prompts", {**weights, "text encoders' weights": nbytes(*readers)}, taken)
    if generator.needs_images:
        eyes = list(image_encoders(generator).values())
        image, taken = encode_image(generator, [*denoisers, *eyes], how.size)
        planned.conditioning = planned.conditioning.joined(image)
        planned.add("encode images", {**weights, "image encoders' weights": nbytes(*eyes)}, taken)
    if isinstance(settings, AlignSettings):
        vae = encoders(generator)[VAE]
        encoded = encode_video(generator, [*denoisers, vae], how.size)
        planned.add("encode videos", {**weights, "VAE's weights": nbytes(vae)}, encoded)
    held = _policy(planned, weights)
    match settings:
        case OnlineSettings():
            forwards, left_out = _online(planned, settings, held, given)
        case RewardGradientSettings():
            forwards, left_out = _gradient(planned, settings, held)
        case StepSettings():
            taken = _learn(planned, settings, held, [])
            forwards, left_out = _counted(settings, taken), ()
        case _:
            raise TypeError(f"no plan for {type(settings).__name__}")
    _update(planned, held)
    found = MemoryPlan(
        model=generator.model,
        settings=settings,
        size=how.size,
        tokens=generator.tokens(generator.latent_shape(how.size)),
        trainable=_trainable(planned.policy),
        stages=planned.stages,
        host=planned.host,
        forwards=forwards,
        left_out=(*left_out, *_left_out(settings)),
    )
    mend = mend_for(found.peak.name, found.peak.largest, settings, how, precise=_precise(generator))
    return replace(found, mend=mend)


def _without_missing(settings: RewardGradientSettings) -> RewardGradientSettings:
    """The settings to check: a plan needs sizes alone, so that a file of real clips may still be to come."""
    if not settings.real or Path(settings.real).exists():
        return settings
    return replace(settings, real="", data_anchor=0.0, edit_from=None)


def _precise(generator: Generator) -> list[str]:
    """What of the model is in float32."""
    parts: dict[str, Any] = {"denoiser": next(iter(generator.denoisers.values())), VAE: encoders(generator)[VAE]}
    return [name for name, part in parts.items() if part.dtype == torch.float32]


def _trainable(policy: Policy) -> int:
    return sum(each.numel() for each in policy.parameters.values())


def _policy(planned: _Planned, weights: dict[str, int]) -> dict[str, int]:
    """Put the policy on the generator; what lives through the whole training."""
    settings, generator = planned.settings, planned.generator
    moving = isinstance(settings, OnlineSettings) and not isinstance(settings.reference, Fixed)
    asks = not isinstance(settings, AlignSettings) or isinstance(settings.objective, DPO)
    asks = asks or (isinstance(settings, AlignSettings) and settings.objective.name == "kto")
    with META, _adapters_in(next(iter(generator.denoisers.values()))):
        policy = Policy(
            generator, settings.lora, seed=settings.seed, reference=asks, moving=moving, experts=settings.experts
        )
    planned.policy = policy
    if len(generator.denoisers) > 1:
        ask_one_expert(generator, policy.experts[0])
    if settings.trainer.activation_checkpointing != "none":
        keep = settings.trainer.activation_checkpointing == "selective"
        generator.enable_activation_checkpointing(keep_attention=keep)
    count = _trainable(policy)
    own = nbytes(*generator.denoisers.values()) - weights["denoiser's weights"]
    inside = {id(each) for denoiser in generator.denoisers.values() for each in denoiser.parameters()}
    masters = sum(each.nbytes for each in policy.parameters.values() if id(each) not in inside)
    moments = 2 if settings.trainer.optimiser == "adamw_8bit" else 8
    return {
        **weights,
        "frozen copy of the denoiser": nbytes(*policy.frozen.values()),
        "trained weights in fp32": own + masters,
        "moving reference": sum(each.nbytes for each in (policy.reference or {}).values()),
        "optimiser's moments": moments * count,
        "moving average": 4 * count if settings.trainer.ema_decay else 0,
    }


@contextlib.contextmanager
def _adapters_in(denoiser: Any) -> Iterator[None]:
    """In the block, peft's new layers have the denoiser's precision: it casts those of real weights alone."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(denoiser.dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _modules(planned: _Planned) -> list[nn.Module | Tensor]:
    """What is there while the policy learns."""
    policy = planned.policy
    tensors: Sequence[Tensor] = [*policy.parameters.values(), *(policy.reference or {}).values()]
    return [*planned.generator.denoisers.values(), *policy.frozen.values(), *tensors]


def _learn(
    planned: _Planned, settings: StepSettings, held: dict[str, int], others: Sequence[nn.Module], name: str = "learn"
) -> Measured:
    size = planned.sampling.size
    one = replace(settings, reference_slots=0) if isinstance(settings, AlignSettings) else settings
    taken = learn(planned.policy, [*_modules(planned), *others], planned.conditioning, size, one)
    # The draws of the whole batch are made at once; those of one micro-batch were counted.
    rest = batch_size(one) - planned_size(one)
    noise = 4 * torch.Size(planned.generator.latent_shape(size)).numel()
    sides = 2 if isinstance(one.objective, DPO) else 1
    kept = sides * batch_size(one) if isinstance(one, OnlineSettings) else 0
    return planned.add(name, held, taken, extra=noise * (rest + kept))


def _counted(settings: StepSettings, taken: Measured) -> dict[str, float]:
    """Forwards of a whole step from those of the micro-batches that were run."""
    share = batch_size(settings) / planned_size(settings)
    return {"without a graph": taken.forwards.plain * share, "with a graph": taken.forwards.graded * share}


def _online(
    planned: _Planned, settings: OnlineSettings, held: dict[str, int], given: GenerateSettings
) -> tuple[dict[str, float], tuple[str, ...]]:
    generator, how, vae = planned.generator, planned.sampling, encoders(planned.generator)[VAE]
    reward, lacking = _judge(settings)
    modules = [] if reward is None else reward_modules(reward)
    resident = {**held, "VAE's weights": nbytes(vae), "reward's weights": nbytes(*modules)}
    there: list[Any] = [*_modules(planned), vae, *modules]
    videos = settings.prompts * settings.rollout.candidates
    together = min(settings.rollout.batch_size or given.batch_size, videos)
    latents = 4 * torch.Size(generator.latent_shape(how.size)).numel() * videos
    planned.add("roll out", resident, roll_out(planned.policy, there, planned.conditioning, how, together), latents)
    read = None if reward is None else reward.frames_read(how.size.num_frames)
    planned.add("decode", resident, decode(generator, there, how.size, together, read), latents)
    if reward is not None:
        size = min(settings.reward.batch_size, together)
        judged = judge(generator, there, reward, how.size, videos=together, together=size, fps=how.fps)
        planned.add("judge", resident, judged, latents)
    taken = _learn(planned, settings, resident, [vae, *modules])
    rollouts = videos * how.steps * generator.passes(how.guidance_scale)
    made = {"rollouts": rollouts / settings.reuse, "decoded videos": videos / settings.reuse}
    return {**_counted(settings, taken), **made, "reward queries": videos / settings.reuse}, lacking


def _judge(settings: OnlineSettings) -> tuple[Reward | None, tuple[str, ...]]:
    if not settings.judge.startswith(PREFIX):
        return None, (f"the judge {settings.judge}, its weights and what it computes",)
    reward, lacking = planned_reward(settings.judge.removeprefix(PREFIX), settings.reward.options)
    return reward, (lacking,) if lacking else ()


def _gradient(
    planned: _Planned, settings: RewardGradientSettings, held: dict[str, int]
) -> tuple[dict[str, float], tuple[str, ...]]:
    choice, vae, how = settings.reward, encoders(planned.generator)[VAE], planned.sampling
    reward, lacking = planned_reward(choice.name, choice.options, checkpointing=choice.checkpointing)
    modules = reward_modules(reward)
    resident = {**held, "VAE's weights": nbytes(vae), "reward's weights": nbytes(*modules)}
    eyes = [each for each in image_encoders(planned.generator).values() if each is not vae and how.segments > 1]
    resident |= {"image encoder's weights": nbytes(*eyes)} if eyes else {}
    there: list[Any] = [*_modules(planned), vae, *eyes, *modules]
    planned.add("learn", resident, climb(planned.policy, there, planned.conditioning, how, settings, reward))
    plain, graded = forwards_per_video(planned.generator, settings, how)
    videos = settings.batch_size
    queries = videos * (settings.gradient.times if settings.gradient.name == "renoised" else 1)
    counts = {"without a graph": plain * videos, "with a graph": graded * videos}
    return {**counts, "decoded videos": float(queries), "reward queries": float(queries)}, (lacking,) if lacking else ()


def _update(planned: _Planned, held: dict[str, int]) -> None:
    """The optimiser's step: fp32 gradients, and AdamW's one temporary of their size."""
    learned = planned.stages[-1]
    size = 8 * _trainable(planned.policy)
    planned.stages.append(Stage(name="update weights", held=learned.held, by={"gradients": size}))


def _left_out(settings: RunSettings) -> tuple[str, ...]:
    found = []
    if settings.samples.every:
        found.append("sample videos while training (samples.every): a rollout and a decode of one clip")
    watch = getattr(settings, "watch", None)
    if watch is not None and watch.every:
        named = ", ".join((*watch.held_out, *watch.proxies))
        scored = f", and what scores them: {named}" if named else ""
        found.append(f"the watch's looks (watch.every): rollouts and decodes of {watch.batch_size} clips{scored}")
    if settings.trainer.sharded:
        found.append("that weights are split over ranks (trainer.sharded): these are one process's that holds all")
    return tuple(found)
