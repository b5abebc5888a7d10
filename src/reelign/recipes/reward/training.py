"""Training a reward: labelled pairs, a VideoRewardModel, the one Trainer, and a folder that opens as a reward."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.objectives.ranking import ScoreRegression
from reelign.recipes.reward.calibration import Calibration, calibrate, differences_of
from reelign.recipes.reward.card import RewardNumbers, write_reward_card
from reelign.recipes.reward.clips import ClipStore
from reelign.recipes.reward.data import RewardData
from reelign.recipes.reward.policy import RewardPolicy
from reelign.recipes.reward.settings import RewardSettings
from reelign.recipes.reward.step import RewardStep
from reelign.recipes.reward.stream import RewardStream
from reelign.recipes.reward.watch import HeldOutRanking, Scored, ranking_look, score_pairs
from reelign.recipes.run_config import check_claim, claim_run
from reelign.records.ranking_accuracy import with_ties_by_pair, without_ties_by_pair
from reelign.rewards.loading import device_and_dtype
from reelign.rewards.qwen_vl_weights import fetch_folder
from reelign.rewards.videoreward import save_reward
from reelign.rewards.videoreward_clips import VideoRewardSettings
from reelign.rewards.videoreward_model import VideoRewardModel, from_backbone
from reelign.rewards.videoreward_public import from_videoreward
from reelign.rewards.videoreward_saved import SETTINGS, load_model
from reelign.rewards.videoreward_template import DETAILED_SPECIAL, short_template
from reelign.training.optimisers import make_optimiser
from reelign.training.policy import Policy
from reelign.training.trainer import Trainer

REWARD_FOLDER = "reward"
NUMBERS = "numbers.json"
ONLY_WHERE = ("device", "workers", "cache_gb")
"""Settings that a run may go on with others of."""
NORMALISED_ON = 1024
"""Videos that mean and deviation are taken over, at most."""


@dataclass(frozen=True)
class TrainedReward:
    """What a call of `train_reward` did."""

    folder: Path
    """The run's."""
    reward: Path
    """What `open_reward("videoreward", model=...)` takes."""
    started_from: int
    """The step it went on from; 0 for a fresh run."""
    numbers: RewardNumbers


def train_reward(data: RewardData, settings: RewardSettings, folder: Path) -> TrainedReward:
    """Train a reward on labelled pairs; a stopped run goes on.

    Args:
        data: pairs of videos on the dimensions of the settings.
        settings: what to train and how.
        folder: of the run; takes config, checkpoints, metrics and the reward.
    Raises:
        ReelignError: labels that teach nothing, a prompt that holds a reward token, a backbone that cannot be loaded,
            or a folder with a run of other settings or data.
    """
    if settings.scores == "wins":
        data = data.with_win_scores()
    if isinstance(settings.objective, ScoreRegression):
        data = data.with_single_videos()
    held_out, calibration, trained = data.split((settings.watch.held_out, settings.watch.calibration), settings.seed)
    trained = trained.fit_for(settings.objective)
    content = run_content(settings, data)
    check_claim(folder, content)
    model = make_model(settings)
    _check_prompts(model, data)
    claim_run(folder, content)
    budget = settings.cache_gb * 1e9
    with ClipStore(partial(_look, model), budget_bytes=budget, workers=settings.workers) as store:
        policy = RewardPolicy(model, settings)
        if settings.trainer.activation_checkpointing != "none":
            policy.enable_activation_checkpointing()
        watch = _watch(settings, held_out, store, folder)
        started_from = _train(policy, settings, trained, store, folder, watch)
        steps = settings.steps(len(trained))
        if watch and (best := watch[0].best_weights()) is not None:
            policy.load_state_dict(best)
            steps = watch[0].best_step
        theta = _theta(policy, data)
        model = policy.fold()
        size = 2 * settings.micro_batch_size
        model.settings = replace(model.settings, **_normalisation(model, trained, store, size))
        numbers = RewardNumbers(
            dimensions=data.dimensions,
            pairs=len(trained),
            videos=len(trained.pairs.unique()),
            steps=steps,
            trained_values=policy.trained_values,
            left_out=trained.left_out,
            held_out_pairs=len(held_out),
            **_measure(model, held_out, calibration, store, size),
            theta=theta,
            stopped=watch[0].verdict() if watch else None,
            alarm=watch[0].alarm if watch else None,
        )
    reward = _keep(model, numbers, settings, folder)
    return TrainedReward(folder, reward, started_from, numbers)


def run_content(settings: RewardSettings, data: RewardData) -> dict[str, Any]:
    """All that decides what a run comes to."""
    deciding = {name: value for name, value in asdict(settings).items() if name not in ONLY_WHERE}
    return {"reward": deciding, "data": data.key}


def make_model(settings: RewardSettings) -> VideoRewardModel:
    """A model to train, from a backbone or a trained reward, on its device.

    Raises:
        ReelignError: it cannot be loaded, or a trained reward has other dimensions than those asked for.
    """
    device, dtype = device_and_dtype(settings.device, settings.dtype, large=True)
    if not settings.start_from:
        return from_backbone(
            settings.backbone, model_settings(settings), device=device, dtype=dtype, seed=settings.seed
        )
    folder = fetch_folder(settings.start_from)
    if (folder / SETTINGS).is_file():
        model = load_model(folder, device=device, dtype=dtype)[0]
    else:
        model = from_videoreward(str(folder), device=device, dtype=dtype)
    if model.settings.dimensions != settings.dimensions:
        raise ReelignError(
            f"{settings.start_from} scores {', '.join(model.settings.dimensions)} and not "
            f"{', '.join(settings.dimensions)}.",
            f"Set dimensions=[{','.join(model.settings.dimensions)}], or start from a backbone.",
        )
    # Its means and deviations were those of its old weights.
    model.settings = replace(model.settings, mean=(), std=())
    return model


def model_settings(settings: RewardSettings) -> VideoRewardSettings:
    """What a fresh model looks at and is asked."""
    names = settings.dimensions
    fits = set(names) == {"VQ", "MQ", "TA"} and settings.pooling == "special"
    detailed = settings.template == "detailed" or (settings.template == "auto" and fits)
    own = names if settings.pooling == "special" else ()
    return VideoRewardSettings(
        dimensions=names,
        template=DETAILED_SPECIAL if detailed else short_template(own, agnostic=settings.agnostic),
        pooling=settings.pooling,
        head_width=1 if settings.pooling == "special" else len(names),
        positions=settings.positions,
        clips=settings.clips,
    )


def _look(model: VideoRewardModel, video: Tensor, fps: float) -> Any:
    return model.preparer.look(video, fps)


def _check_prompts(model: VideoRewardModel, data: RewardData) -> None:
    """Refuse a prompt that holds a special token before hours of training, not after."""
    clips = model.settings.clips
    seen = model.preparer.look(torch.zeros(clips.frames_needed, 3, 64, 64), clips.fps)
    for prompt in dict.fromkeys(data.prompts):
        model.preparer.read(seen, prompt)


def _watch(settings: RewardSettings, held_out: RewardData, store: ClipStore, folder: Path) -> list[HeldOutRanking]:
    if not settings.watch.held_out:
        return []
    size = 2 * settings.micro_batch_size
    return [HeldOutRanking(ranking_look(held_out, store, settings.objective, batch_size=size), settings.watch, folder)]


def _train(
    policy: RewardPolicy,
    settings: RewardSettings,
    data: RewardData,
    store: ClipStore,
    folder: Path,
    watch: list[HeldOutRanking],
) -> int:
    """Run the loop and return the step it started from."""
    stream = RewardStream(data, store, batch_size=settings.batch_size, seed=settings.seed, mixing=settings.mixing)
    step = RewardStep(settings.objective, micro_batch_size=settings.micro_batch_size)
    how = replace(settings.trainer, steps=settings.steps(len(data)), activation_checkpointing="none")
    # The loop knows no generator: it asks of a policy what RewardPolicy has.
    trained = cast(Policy, policy)
    title = f"reward {settings.run}"
    optimisers = make_optimisers(policy, settings)
    trainer = Trainer(trained, stream, step, how, folder, title=title, optimisers=optimisers, monitors=watch)
    started_from = trainer.train()
    if policy.average is not None:
        policy.load_state_dict(policy.average)
    return started_from


def make_optimisers(policy: RewardPolicy, settings: RewardSettings) -> list[torch.optim.Optimizer]:
    """One for what starts from nothing, at `head_rate` times the learning rate, and one for the backbone."""
    new = policy.new_parameters
    rest = [each for name, each in policy.parameters.items() if name.startswith("backbone.")]
    faster = replace(settings.trainer, learning_rate=settings.head_rate * settings.trainer.learning_rate)
    return [make_optimiser(new, faster), *([make_optimiser(rest, settings.trainer)] if rest else [])]


def _theta(policy: RewardPolicy, data: RewardData) -> dict[str, float]:
    if policy.ties is None:
        return {}
    return dict(zip(data.dimensions, policy.ties().exp().tolist(), strict=True))


def _normalisation(model: VideoRewardModel, data: RewardData, store: ClipStore, size: int) -> dict[str, Any]:
    """Mean and deviation of the raw scores of trained videos, of as many pairs as hold `NORMALISED_ON` of them."""
    some = data.take(torch.arange(min(len(data), NORMALISED_ON // 2)))
    rewards = score_pairs(model, some, store, batch_size=size).rewards
    std = rewards.double().std(dim=0)
    for name, value in zip(data.dimensions, std.tolist(), strict=True):
        if not value > 0:
            raise ReelignError(
                f"The trained reward gives every video the same {name}.",
                "Train longer or with a higher trainer.learning_rate, and look at metrics.jsonl.",
            )
    return {"mean": tuple(rewards.double().mean(dim=0).tolist()), "std": tuple(std.tolist())}


def _measure(
    model: VideoRewardModel, held_out: RewardData, calibration: RewardData, store: ClipStore, size: int
) -> dict[str, Any]:
    """Calibration on one split, accuracies on the other."""

    def scored(data: RewardData) -> Scored | None:
        return score_pairs(model, data, store, batch_size=size) if len(data) else None

    mean, std = (torch.tensor(each, dtype=torch.float64) for each in (model.settings.mean, model.settings.std))
    fitted: dict[str, Calibration] = {}
    if (own := scored(calibration)) is not None:
        differences, labels = differences_of(own, mean, std)
        for column, name in enumerate(calibration.dimensions):
            if (found := calibrate(differences[:, column], labels[:, column])) is not None:
                fitted[name] = found
    without: dict[str, float] = {}
    with_ties: dict[str, float] = {}
    if (own := scored(held_out)) is not None:
        differences, labels = differences_of(own, mean, std)
        for column, name in enumerate(held_out.dimensions):
            there = ~labels[:, column].isnan()
            told = differences[there, column], labels[there, column]
            without[name] = float(without_ties_by_pair(*told).nanmean())
            if name in fitted and there.any():
                with_ties[name] = float(with_ties_by_pair(*told, fitted[name].tie_threshold).nanmean())
    return {"calibration": fitted, "without_ties": without, "with_ties": with_ties}


def _keep(model: VideoRewardModel, numbers: RewardNumbers, settings: RewardSettings, folder: Path) -> Path:
    reward = folder / REWARD_FOLDER
    save_reward(model, reward)
    write_text(reward / NUMBERS, json.dumps(numbers.as_dict(), indent=1))
    write_reward_card(
        reward, base_model=settings.start_from or settings.backbone, numbers=numbers, config=asdict(settings)
    )
    return reward
