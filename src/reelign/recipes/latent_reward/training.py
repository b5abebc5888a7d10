"""Training a latent reward: labelled pairs, a generator's first blocks, the one Trainer, a folder that guides."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch

from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.generators.base import Generator
from reelign.objectives.ranking import ScoreRegression
from reelign.recipes.latent_reward.data import LatentPairs, load_pairs, quarter_draw, training_levels
from reelign.recipes.latent_reward.policy import LatentRewardPolicy, forward
from reelign.recipes.latent_reward.settings import LatentRewardSettings
from reelign.recipes.latent_reward.watch import accuracy_by_level, at_levels, levels_look
from reelign.recipes.reward.data import RewardData
from reelign.recipes.reward.step import RewardStep
from reelign.recipes.reward.watch import HeldOutRanking
from reelign.recipes.run_config import check_claim, claim_run
from reelign.records import Workspace
from reelign.training import Trainer
from reelign.training.latent_reward import LatentReward, blocks_or_quarter, new_latent_reward
from reelign.training.latent_reward_files import save_latent_reward
from reelign.training.optimisers import make_optimiser
from reelign.training.policy import Policy

REWARD_FOLDER = "latent_reward"
NUMBERS = "numbers.json"
NORMALISED_ON = 512
"""Pairs that mean and deviation are taken over, at most."""
ROOM = 1.25
"""Latents larger than those of any trained video by this factor are out of the data's range."""


@dataclass(frozen=True)
class TrainedLatentReward:
    """What a call of `train_latent_reward` did."""

    folder: Path
    """The run's."""
    reward: Path
    """What `load_latent_reward` takes."""
    started_from: int
    """The step it went on from; 0 for a fresh run."""
    pairs: int
    """Trained on."""
    held_out_pairs: int
    accuracy: dict[str, list[float]]
    """Of held-out pairs by dimension, in each quarter of the noise levels from the cleanest; empty without any."""
    left_out: dict[str, int]
    stopped: str | None = None
    alarm: str | None = None


def train_latent_reward(
    data: RewardData,
    generator: Generator,
    settings: LatentRewardSettings,
    folder: Path,
    *,
    cache: Path,
    workspace: Workspace | None = None,
) -> TrainedLatentReward:
    """Train a reward on noisy latents; a stopped run goes on.

    Args:
        data: labelled pairs on the dimensions of the settings.
        generator: the base, whose first blocks it begins as.
        settings: what to train and how.
        folder: of the run; takes config, checkpoints, metrics and the reward.
        cache: of latents and text embeddings.
        workspace: whose stored latents the pairs are of, where they are of one.
    Raises:
        ReelignError: labels that teach nothing, more blocks than the model has, or a folder with another run.
    """
    if settings.scores == "wins":
        data = data.with_win_scores()
    if isinstance(settings.objective, ScoreRegression):
        data = data.with_single_videos()
    held_out, trained = data.split((settings.watch.held_out,), settings.seed)
    trained = trained.fit_for(settings.objective)
    content = {"model": generator.identity, "latent_reward": asdict(settings), "data": data.key}
    check_claim(folder, content)
    shape = settings.shape(blocks_or_quarter(generator, settings.blocks))
    pairs = load_pairs(data, generator, cache, workspace)
    if settings.other_prompts:
        pairs = pairs.with_others(settings.others)
    latent_shape = tuple(pairs.latents.shape[1:])
    model = new_latent_reward(generator, shape, pairs.conditioning, latent_shape, seed=settings.seed)
    claim_run(folder, content)
    checkpointed = settings.trainer.activation_checkpointing != "none"
    policy = LatentRewardPolicy(model, settings.objective, activation_checkpointing=checkpointed)
    watch = _watch(settings, pairs.only(held_out), folder)
    started_from = _train(policy, settings, pairs.only(trained), folder, watch)
    if watch and (best := watch[0].best_weights()) is not None:
        policy.load_state_dict(best)
    _describe(model, pairs.only(trained), settings)
    accuracy = _accuracy(model, pairs.only(held_out), settings)
    reward = save_latent_reward(model, folder / REWARD_FOLDER)
    done = TrainedLatentReward(
        folder=folder,
        reward=reward,
        started_from=started_from,
        pairs=len(trained),
        held_out_pairs=len(held_out),
        accuracy=accuracy,
        left_out=dict(trained.left_out),
        stopped=watch[0].verdict() if watch else None,
        alarm=watch[0].alarm if watch else None,
    )
    write_text(reward / NUMBERS, json.dumps(_numbers(done), indent=1))
    return done


def _watch(settings: LatentRewardSettings, held_out: LatentPairs, folder: Path) -> list[HeldOutRanking]:
    if not settings.watch.held_out:
        return []
    look = levels_look(held_out, settings.objective, batch_size=2 * settings.micro_batch_size, seed=settings.seed)
    return [HeldOutRanking(look, settings.watch, folder)]


def _train(
    policy: LatentRewardPolicy,
    settings: LatentRewardSettings,
    pairs: LatentPairs,
    folder: Path,
    watch: list[HeldOutRanking],
) -> int:
    """Run the loop and return the step it started from."""
    levels = training_levels(settings, policy.model.generator)
    stream = pairs.stream(levels, batch_size=settings.batch_size, seed=settings.seed)
    step = RewardStep(settings.objective, micro_batch_size=settings.micro_batch_size, forward=forward)
    how = replace(settings.trainer, steps=settings.steps(len(pairs)), activation_checkpointing="none")
    faster = replace(settings.trainer, learning_rate=settings.head_rate * settings.trainer.learning_rate)
    optimisers = [make_optimiser(policy.new_parameters, faster)]
    if policy.trunk_parameters:
        optimisers.append(make_optimiser(policy.trunk_parameters, settings.trainer))
    # The loop knows no generator: it asks of a policy what TrainedWeights has.
    trained, title = cast(Policy, policy), f"latent reward {settings.run}"
    trainer: Trainer[Any] = Trainer(
        trained, cast(Any, stream), cast(Any, step), how, folder, title=title, optimisers=optimisers, monitors=watch
    )
    started_from = trainer.train()
    if policy.average is not None:
        policy.load_state_dict(policy.average)
    return started_from


@torch.no_grad()
def _describe(model: LatentReward, pairs: LatentPairs, settings: LatentRewardSettings) -> None:
    """Mean and deviation of raw rewards over trained videos, nearly clean, and how large their latents are."""
    rows = torch.arange(min(len(pairs), NORMALISED_ON))
    some = pairs.only(pairs.data.take(rows))
    shape = torch.Size((len(rows), *pairs.latents.shape[1:]))
    draw = quarter_draw(shape, 0, model.generator, settings.seed)
    batch, size = some.batch(rows, draw), 2 * settings.micro_batch_size
    parts = [forward(model, batch.rows(start, start + size)).cpu() for start in range(0, len(rows), size)]
    rewards = torch.cat(parts).double()
    std = rewards.std(dim=0)
    for name, value in zip(settings.dimensions, std.tolist(), strict=True):
        if not value > 0 or not math.isfinite(value):
            raise ReelignError(
                f"The trained latent reward gives every video the same {name}.",
                "Train longer or with a higher trainer.learning_rate, and look at metrics.jsonl.",
            )
    used = pairs.latents[pairs.data.pairs.flatten().unique()]
    model.settings = replace(
        model.settings,
        mean=tuple(rewards.mean(dim=0).tolist()),
        std=tuple(std.tolist()),
        largest=ROOM * float(used.flatten(1).square().mean(dim=1).sqrt().max()),
    )


def _accuracy(model: LatentReward, held_out: LatentPairs, settings: LatentRewardSettings) -> dict[str, list[float]]:
    if not len(held_out):
        return {}
    found = at_levels(model, held_out, batch_size=2 * settings.micro_batch_size, seed=settings.seed)
    return accuracy_by_level(found, settings.dimensions)


def _numbers(done: TrainedLatentReward) -> dict[str, Any]:
    told = {name: [None if math.isnan(value) else value for value in values] for name, values in done.accuracy.items()}
    return {
        "pairs": done.pairs,
        "held_out_pairs": done.held_out_pairs,
        "held_out_accuracy_by_quarter_of_noise": told,
        "left_out": done.left_out,
        "stopped": done.stopped,
        "alarm": done.alarm,
    }
