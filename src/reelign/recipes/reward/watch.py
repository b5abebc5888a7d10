"""Looks at held-out pairs while a reward trains: when to stop, and whether it learns the pairs by heart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reelign.files import whole
from reelign.objectives.ranking import RankingObjective
from reelign.recipes.reward.clips import ClipStore
from reelign.recipes.reward.data import RewardData
from reelign.recipes.reward.policy import RewardPolicy
from reelign.recipes.reward.settings import WatchSettings
from reelign.recipes.reward.step import agreement, losses_of
from reelign.recipes.reward.stream import RewardBatch
from reelign.rewards.videoreward_model import VideoRewardModel

BEST = "best.safetensors"


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Rewards of all videos of labelled pairs."""

    batch: RewardBatch
    """The pairs, with places in the videos that they need."""
    rewards: Tensor
    """(U, D) float32 on the CPU, raw."""


@torch.no_grad()
def score_pairs(model: VideoRewardModel, data: RewardData, store: ClipStore, *, batch_size: int) -> Scored:
    """Score every video of the pairs once, so many in a forward."""
    videos, places = data.pairs.unique(return_inverse=True)
    clips = [data.clips[each] for each in videos.tolist()]
    found = []
    for start in range(0, len(clips), batch_size):
        own = clips[start : start + batch_size]
        seen = store.take([clip.path for clip in own])
        store.ahead(clip.path for clip in clips[start + batch_size : start + 2 * batch_size])
        ready = model.preparer.batch(seen, [clip.prompt for clip in own])
        found.append(model(ready.to(model.device)).float().cpu())
    batch = RewardBatch(
        seen=(), prompts=(), pairs=places, labels=data.labels, gaps=data.gaps(), scores=data.scores[videos]
    )
    return Scored(batch=batch, rewards=torch.cat(found))


def ranking_look(
    data: RewardData, store: ClipStore, objective: RankingObjective, *, batch_size: int
) -> Callable[[RewardPolicy], dict[str, float]]:
    """A look at held-out pairs, so many videos in a forward."""

    def look(policy: RewardPolicy) -> dict[str, float]:
        scored = score_pairs(policy.model, data, store, batch_size=batch_size)
        return ranking_metrics(policy, objective, scored.rewards, scored.batch, data.dimensions)

    return look


@torch.no_grad()
def ranking_metrics(
    policy: Any, objective: RankingObjective, rewards: Tensor, batch: Any, dimensions: Sequence[str]
) -> dict[str, float]:
    """Loss and accuracies of raw rewards (U, D) on the CPU, of a batch's pairs."""
    counts, losses = losses_of(policy, objective, rewards.to(policy.model.device), batch)
    right = agreement(rewards, batch)
    found = {"held_out/loss": float(losses.sum() / counts.sum()), "held_out/accuracy": float(right.nanmean())}
    for column, name in enumerate(dimensions):
        found[f"held_out/accuracy/{name}"] = float(right[:, column].nanmean())
    return found


class HeldOutRanking:
    """Scores held-out pairs every so many steps. Metrics:

        held_out/loss             the objective's own; early stopping goes by it
        held_out/accuracy[/VQ]    without ties, mean over all decided labels or of a dimension
        overfit_gap               accuracy on the pairs trained since the last look, less that on held-out ones

    Pairs are counted as trained before their step, so that in the first epoch the gap is about 0 whatever is learnt.

    Args:
        look: the metrics of a policy's weights as they stand, `held_out/loss` and `held_out/accuracy` among them.
        settings: how often, and when to stop.
        folder: takes the best weights, where early stopping is asked for.
    """

    def __init__(self, look: Callable[[Any], dict[str, float]], settings: WatchSettings, folder: Path) -> None:
        self.look = look
        self.settings = settings
        self.folder = folder
        self.best_loss = math.inf
        self.best_step = 0
        self.worse = 0
        """Looks in a row without a lower loss."""
        self.gap = math.nan
        """The overfit gap of the last look."""
        self._trained: list[float] = []

    def after_step(self, step: int, policy: Any, metrics: dict[str, float]) -> dict[str, float]:
        if math.isfinite(metrics["accuracy"]):
            self._trained.append(metrics["accuracy"])
        if step % self.settings.every:
            return {}
        with policy.averaged():
            found = self.look(policy)
            self._count(step, policy, found["held_out/loss"])
        if self._trained:
            self.gap = sum(self._trained) / len(self._trained) - found["held_out/accuracy"]
            found["overfit_gap"] = self.gap
        self._trained = []
        return found

    @property
    def alarm(self) -> str | None:
        """What the last look says of learning by heart, or None."""
        if not self.gap > self.settings.overfit_gap:
            return None
        return (
            f"the accuracy on trained pairs stands {self.gap:.2f} above that on held-out ones "
            f"(watch.overfit_gap={self.settings.overfit_gap:g})"
        )

    def verdict(self) -> str | None:
        if not self.settings.patience or self.worse < self.settings.patience:
            return None
        return f"the held-out loss has not fallen for {self.worse} looks in a row; step {self.best_step} had the lowest"

    def best_weights(self) -> dict[str, Tensor] | None:
        """Of the lowest held-out loss, where early stopping kept them."""
        path = self.folder / BEST
        return load_file(path) if self.settings.patience and self.best_step and path.exists() else None

    def state_dict(self) -> dict[str, Any]:
        best = None if math.isinf(self.best_loss) else self.best_loss
        gap = None if math.isnan(self.gap) else self.gap
        return {
            "best_loss": best,
            "best_step": self.best_step,
            "worse": self.worse,
            "gap": gap,
            "trained": self._trained,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best_loss = math.inf if state["best_loss"] is None else state["best_loss"]
        self.gap = math.nan if state["gap"] is None else state["gap"]
        self.best_step, self.worse, self._trained = state["best_step"], state["worse"], list(state["trained"])

    def _count(self, step: int, policy: RewardPolicy, loss: float) -> None:
        self.worse += 1
        if loss < self.best_loss:
            self.best_loss, self.best_step, self.worse = loss, step, 0
            if self.settings.patience:
                self.folder.mkdir(parents=True, exist_ok=True)
                with whole(self.folder / BEST) as beside:
                    save_file({name: each.cpu().contiguous() for name, each in policy.state_dict().items()}, beside)
