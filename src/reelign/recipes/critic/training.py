"""Training a critic: votes with reasons, a vision-language model, the one Trainer, a folder that opens as a critic."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from reelign.critics.frames import Shown
from reelign.critics.generating import refuse_special
from reelign.critics.opening import SAVED
from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.recipes.critic.card import CriticNumbers, write_critic_card
from reelign.recipes.critic.data import CriticData
from reelign.recipes.critic.model import CriticModel, CriticPolicy
from reelign.recipes.critic.settings import CriticSettings
from reelign.recipes.critic.step import CriticStep
from reelign.recipes.critic.stream import CriticStream
from reelign.recipes.critic.watch import Told, ask_held_out, surprise_look
from reelign.recipes.reward.clips import VideoStore
from reelign.recipes.reward.watch import HeldOutRanking
from reelign.recipes.run_config import check_claim, claim_run
from reelign.training.policy import Policy
from reelign.training.trainer import Trainer

CRITIC_FOLDER = "critic"
NUMBERS = "numbers.json"
ONLY_WHERE = ("device", "workers", "cache_gb")
"""Settings that a run may go on with others of."""


@dataclass(frozen=True)
class TrainedCritic:
    """What a call of `train_critic` did."""

    folder: Path
    """The run's."""
    critic: Path
    """What `open_critic` takes."""
    started_from: int
    """The step it went on from; 0 for a fresh run."""
    numbers: CriticNumbers


def train_critic(data: CriticData, settings: CriticSettings, folder: Path) -> TrainedCritic:
    """Train a critic on votes with reasons (IPO, arXiv:2502.02088, section 4.2); a stopped run goes on.

    Args:
        data: lessons on the dimensions of the settings.
        settings: what to train and how.
        folder: of the run; takes config, checkpoints, metrics and the critic.
    Raises:
        ReelignError: a dimension without words, a prompt or reason that holds a special token, a backbone that cannot
            be loaded, or a folder with a run of other settings or data.
    """
    held_out, trained = data.split((settings.watch.held_out,), settings.seed)
    deciding = {name: value for name, value in asdict(settings).items() if name not in ONLY_WHERE}
    content = {"critic": deciding, "data": data.key}
    check_claim(folder, content)
    model = CriticModel.load(settings)
    _check_words(model, data)
    claim_run(folder, content)
    with VideoStore(model.look, budget_bytes=settings.cache_gb * 1e9, workers=settings.workers) as store:
        policy = CriticPolicy(model, settings)
        if settings.trainer.activation_checkpointing != "none":
            policy.enable_activation_checkpointing()
        watch = _watch(settings, held_out, store, folder)
        started_from = _train(policy, settings, trained, store, folder, watch)
    steps = settings.steps(len(trained))
    if watch and (best := watch[0].best_weights()) is not None:
        policy.load_state_dict(best)
        steps = watch[0].best_step
    model = policy.fold()
    critic = _save(model, settings, folder)
    numbers = CriticNumbers(
        dimensions=data.dimensions,
        votes=len(trained),
        pairs=sum(len(lesson.examples) == 2 for lesson in trained.lessons),
        reasons=sum(any(each.reasons for each in lesson.examples) for lesson in trained.lessons),
        steps=steps,
        trained_values=policy.trained_values,
        left_out=data.left_out,
        held_out_votes=len(held_out),
        told=_asked(model, held_out, settings),
        stopped=watch[0].verdict() if watch else None,
        alarm=watch[0].alarm if watch else None,
    )
    write_text(critic / NUMBERS, json.dumps(asdict(numbers), indent=1))
    write_critic_card(critic, base_model=settings.backbone, numbers=numbers, config=asdict(settings))
    return TrainedCritic(folder, critic, started_from, numbers)


def _asked(model: CriticModel, held_out: CriticData, settings: CriticSettings) -> Mapping[str, Mapping[str, Told]]:
    most = settings.watch.asked
    return ask_held_out(model, held_out, most=most, max_tokens=settings.max_tokens, seed=settings.seed)


def _check_words(model: CriticModel, data: CriticData) -> None:
    """Refuse words that hold a special token before hours of training, not after."""
    for each in data.examples:
        try:
            refuse_special([each.prompt, *each.reasons], model.writer.tokenizer)
        except ReelignError as error:
            raise ReelignError(
                f"{error.what.rstrip('.')}, asked about {each.name}.", "Withdraw that judgement, or leave it out."
            ) from error


def _watch(
    settings: CriticSettings, held_out: CriticData, store: VideoStore[Shown], folder: Path
) -> list[HeldOutRanking]:
    if not settings.watch.held_out:
        return []
    look = surprise_look(held_out, store, verdict_weight=settings.verdict_weight)
    return [HeldOutRanking(look, settings.watch.ranking(), folder)]


def _train(
    policy: CriticPolicy,
    settings: CriticSettings,
    data: CriticData,
    store: VideoStore[Shown],
    folder: Path,
    watch: list[HeldOutRanking],
) -> int:
    """Run the loop and return the step it started from."""
    stream = CriticStream(data, store, batch_size=settings.batch_size, seed=settings.seed)
    step = CriticStep(verdict_weight=settings.verdict_weight)
    how = replace(settings.trainer, steps=settings.steps(len(data)), activation_checkpointing="none")
    # The loop knows no generator: it asks of a policy what CriticPolicy has.
    trainer = Trainer(cast(Policy, policy), stream, step, how, folder, title=f"critic {settings.run}", monitors=watch)
    started_from = trainer.train()
    if policy.average is not None:
        policy.load_state_dict(policy.average)
    return started_from


def _save(model: CriticModel, settings: CriticSettings, folder: Path) -> Path:
    """Weights and tokenizer as any model of transformers, and beside them how the critic is asked."""
    critic = folder / CRITIC_FOLDER
    model.model.save_pretrained(critic)
    writer = model.writer
    getattr(writer, "processor", writer.tokenizer).save_pretrained(critic)
    asked: dict[str, Any] = {
        "name": settings.run,
        "format": model.format.name,
        "own": settings.own,
        "frames": settings.frames,
        "min_pixels": settings.pixels.min_pixels,
        "max_pixels": settings.pixels.max_pixels,
        "max_tokens": settings.max_tokens,
    }
    write_text(critic / SAVED, json.dumps(asked, indent=1))
    return critic
