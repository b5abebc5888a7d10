"""Which setting lowers the term that a plan's peak is made of."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from reelign.recipes.online.settings import OnlineSettings
from reelign.recipes.planning.model import DECODER, DENOISER, ENCODER, REWARD
from reelign.recipes.reward_gradient.settings import RewardGradientSettings
from reelign.recipes.sampling import Sampling
from reelign.recipes.settings import RunSettings, StepSettings

OTHERS = ("model", "generate")
"""Sections that a plan reads as words, `model.vae_dtype=bfloat16`, and a run from the workspace's file alone."""


def mend_for(stage: str, term: str, settings: RunSettings, sampling: Sampling, *, precise: Collection[str] = ()) -> str:
    """The first setting that is not yet as it saves most.

    Args:
        stage: that needs most.
        term: of it that is largest, a part's activations or what is held.
        settings, sampling: of the run.
        precise: what of `vae` and `denoiser` is in float32.
    """
    found = next(_mends(stage, term, settings, sampling, precise))
    section = next((name for name in OTHERS if f"{name}." in found), None)
    return found if section is None else f"{found} (align takes it from {section} in reelign.yaml)"


def _mends(stage: str, term: str, settings: RunSettings, sampling: Sampling, precise: Collection[str]) -> Iterator[str]:
    match term:
        case _ if term == DENOISER:
            yield from _of_denoiser(stage, settings)
        case _ if term == DECODER:
            yield from _of_decoder(stage, settings, precise)
        case _ if term == REWARD:
            yield from _of_reward(stage, settings)
        case _ if term == ENCODER and "vae" in precise:
            yield "model.vae_dtype=bfloat16 halves what the VAE's encoder holds"
        case "text encoders' weights":
            yield "encode the prompts once on a larger machine: the workspace's cache/text is read where it is there"
        case "optimiser's moments" | "frozen copy of the denoiser" | "gradients" if settings.lora is None:
            yield "lora: {} trains an adapter, whose optimiser and reference cost next to nothing"
        case "optimiser's moments" if settings.trainer.optimiser == "adamw":
            yield "trainer.optimiser=adamw_8bit keeps its moments in a quarter"
        case "denoiser's weights":
            if "denoiser" in precise:
                yield "model.dtype=bfloat16 halves the denoiser"
            yield "trainer.sharded=true splits the weights over several devices"
        case "VAE's weights" if "vae" in precise:
            yield "model.vae_dtype=bfloat16"
    yield from _of_size(stage, settings, sampling)


def _of_denoiser(stage: str, settings: RunSettings) -> Iterator[str]:
    if stage != "learn":
        yield from _of_rollouts(settings)
        return
    if settings.trainer.activation_checkpointing != "full":
        yield "trainer.activation_checkpointing=full keeps the blocks' inputs alone, for a third more time"
    if _micro(settings) > 1:
        yield f"micro_batch_size=1 instead of {_micro(settings)}: the same gradients from one clip or pair at a time"
    if isinstance(settings, RewardGradientSettings) and settings.graph == "held":
        yield "graph=step holds one sampler step's activations at a time"
    if isinstance(settings, StepSettings) and settings.objective.name == "dpo":
        if settings.pairing != "apart":
            yield "pairing=apart runs the two sides of a pair one after the other"
        if not settings.two_pass:
            yield "two_pass=true goes back through one video at a time, for two more forwards a pair"


def _of_rollouts(settings: RunSettings) -> Iterator[str]:
    if isinstance(settings, OnlineSettings) and settings.rollout.batch_size != 1:
        yield "rollout.batch_size=1 samples and decodes one video at a time"


def _of_decoder(stage: str, settings: RunSettings, precise: Collection[str]) -> Iterator[str]:
    if stage != "learn":
        yield from _of_rollouts(settings)
    if isinstance(settings, RewardGradientSettings):
        if settings.decode.mode not in ("reverse", "first"):
            yield "decode.mode=reverse holds one piece of the clip at a time, and runs its blocks again"
        if _micro(settings) > 1:
            yield f"micro_batch_size=1 instead of {_micro(settings)}: one video's graph at a time"
    if "vae" in precise:
        yield "model.vae_dtype=bfloat16 halves what the VAE holds"


def _of_reward(stage: str, settings: RunSettings) -> Iterator[str]:
    if isinstance(settings, RewardGradientSettings):
        if not settings.reward.checkpointing:
            yield "reward.checkpointing=true runs the reward model's blocks again"
        if settings.frames.count is None:
            yield "frames.count lets the reward see fewer frames"
    elif isinstance(settings, OnlineSettings) and settings.reward.batch_size > 1:
        yield "reward.batch_size=1 scores one video at a time"


def _of_size(stage: str, settings: RunSettings, sampling: Sampling) -> Iterator[str]:
    where = "rollout" if isinstance(settings, OnlineSettings | RewardGradientSettings) else "generate"
    size = sampling.size
    yield f"fewer frames or pixels than {size}: {where}.num_frames, {where}.height, {where}.width"


def _micro(settings: RunSettings) -> int:
    found: int = getattr(settings, "micro_batch_size", 1)
    return found
