"""The one training loop. It knows no algorithm: a step accumulates gradients, the loop does the rest."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from reelign.errors import ReelignError
from reelign.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from reelign.training.interfaces import Monitor, Stateful, Step
from reelign.training.interrupts import interrupt_between_steps
from reelign.training.metrics import MetricsLog
from reelign.training.optimisers import make_optimiser
from reelign.training.policy import Policy
from reelign.training.settings import TrainerSettings
from reelign.training.sharding import split_like, split_optimiser_state, whole
from reelign.training.streams import Stream

BatchT = TypeVar("BatchT")


class Trainer(Generic[BatchT]):
    """Train a policy on a stream, resumably.

    A killed run started again ends with the weights of a run never killed, bit for bit on one CPU: batches, draws
    and learning rates are functions of the step, and a checkpoint holds the rest.
    """

    def __init__(
        self,
        policy: Policy,
        stream: Stream[BatchT],
        step: Step[BatchT],
        settings: TrainerSettings,
        folder: Path,
        *,
        title: str = "align",
        optimisers: Sequence[torch.optim.Optimizer] | None = None,
        monitors: Sequence[Monitor] = (),
    ) -> None:
        """Every parameter belongs to one of the `optimisers`, whose learning rates the schedule scales; by default
        one AdamW holds them all."""
        if settings.activation_checkpointing != "none":
            keep = settings.activation_checkpointing == "selective"
            policy.generator.enable_activation_checkpointing(keep_attention=keep)
        self.policy = policy
        self.ranks = policy.ranks
        self.stream = stream
        self.step = step
        self.settings = settings
        self.folder = folder
        self.title = title
        self.monitors = list(monitors)
        self.skipped = self.skipped_in_a_row = 0
        self._saved_at = time.monotonic()
        if optimisers is None:
            optimisers = [make_optimiser(policy.parameters.values(), settings)]
        self.optimisers = list(optimisers)
        self.learning_rates = [[group["lr"] for group in one.param_groups] for one in self.optimisers]

    @property
    def ema(self) -> dict[str, Tensor] | None:
        """The moving average of the weights, where one is kept."""
        return self.policy.average

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def train(self) -> int:
        """Run to the last step and return the step it started from.

        The first Ctrl-C lets the step in hand finish, writes a checkpoint and raises KeyboardInterrupt.
        """
        start = self._resume()
        self._saved_at = time.monotonic()
        self.ranks.check_same(self.policy.state_dict(), "at the start")
        settings = self.settings
        log = MetricsLog(self.folder, start) if self.ranks.main else None
        bar = tqdm(total=settings.steps, initial=start, desc=self.title, unit="step", disable=not self.ranks.main)
        try:
            with interrupt_between_steps() as interrupted:
                for step in range(start, settings.steps):
                    if self.verdict() is not None:  # of a run that was stopped and is called again
                        break
                    metrics = self._one_step(step)
                    for monitor in self.monitors:
                        metrics.update(monitor.after_step(step + 1, self.policy, metrics))
                    if log is not None:
                        log.write(step + 1, {name: value for name, value in metrics.items() if math.isfinite(value)})
                    bar.set_postfix_str(told(metrics), refresh=False)
                    bar.update()
                    # Asked once: a Ctrl-C between two questions would end the run without its checkpoint. And of all
                    # ranks, which must save and stop at the same step.
                    ended, stop, late = self.ranks.any(self.verdict() is not None, interrupted(), self._is_late())
                    done = ended or step + 1 == settings.steps
                    if done or stop or late or (step + 1) % settings.checkpoint_every == 0:
                        self._save(step + 1)
                    if stop and not done:
                        raise KeyboardInterrupt
        finally:
            bar.close()
            if log is not None:
                log.close()
        return start

    def _one_step(self, step: int) -> dict[str, float]:
        began = time.perf_counter()
        share = self.settings.rate(step)
        for optimiser, rates in zip(self.optimisers, self.learning_rates, strict=True):
            optimiser.zero_grad(set_to_none=True)
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * share
        batch = self.stream.next_batch()
        metrics = self.step.accumulate_gradients(self.policy, batch)
        if "loss" not in metrics:
            return {**metrics, "seconds": time.perf_counter() - began}
        self.ranks.sum_gradients(self.policy.parameters.values())
        norm = whole(torch.nn.utils.clip_grad_norm_(self.policy.parameters.values(), self.settings.max_grad_norm))
        bad = not (math.isfinite(metrics["loss"]) and bool(torch.isfinite(norm)))
        if not self.ranks.any(bad)[0]:
            self.skipped_in_a_row = 0
            for optimiser in self.optimisers:
                optimiser.step()
            self.policy.refresh()
            self._update_ema(step - self.skipped)
        else:
            self._skip(step, batch)
        if (step + 1) % self.settings.check_ranks_every == 0:
            self.ranks.check_same(self.policy.state_dict(), f"after step {step + 1}")
        if self.skipped:
            metrics["skipped"] = self.skipped
        rate = self.settings.learning_rate * share
        return {**metrics, "grad_norm": float(norm), "learning_rate": rate, "seconds": time.perf_counter() - began}

    def verdict(self) -> str | None:
        """Why a monitor stopped the run, or None."""
        return next((reason for monitor in self.monitors if (reason := monitor.verdict())), None)

    def _skip(self, step: int, batch: BatchT) -> None:
        """Leave the weights as they are; one bad batch is passed over, several in a row end the run."""
        self.skipped += 1
        self.skipped_in_a_row += 1
        names = ", ".join(getattr(batch, "names", ()))
        if self.skipped_in_a_row >= self.settings.stop_after_skips:
            count = f"{self.skipped_in_a_row} steps in a row" if self.skipped_in_a_row > 1 else "one step"
            raise ReelignError(
                f"The loss or its gradient was not finite in {count}, the last of them step {step + 1}"
                f"{f' on {names}' if names else ''}; the weights were not changed.",
                "Look at these videos, lower the learning rate, or start again from an earlier checkpoint.",
            )

    def _update_ema(self, updates: int) -> None:
        """Move the average towards the weights; so many steps have moved them before."""
        if not self.settings.ema_decay:
            return
        current = self.policy.state_dict()
        if self.policy.average is None:
            self.policy.average = {name: tensor.clone() for name, tensor in current.items()}
        for name, average in self.policy.average.items():
            average.lerp_(current[name], 1 - self.settings.decay(updates))

    def _is_late(self) -> bool:
        """Whether the last checkpoint is too long ago, by the clock."""
        minutes = self.settings.checkpoint_minutes
        return bool(minutes) and time.monotonic() - self._saved_at >= 60 * minutes

    def _save(self, step: int) -> None:
        self._saved_at = time.monotonic()
        optimisers = [whole(optimiser.state_dict()) for optimiser in self.optimisers]
        extra = {
            "step": self.step.state_dict() if isinstance(self.step, Stateful) else {},
            "monitors": [monitor.state_dict() for monitor in self.monitors],
            "skipped": [self.skipped, self.skipped_in_a_row],
            "ranks": self.ranks.count,
        }
        weights, ema, reference = whole(self.policy.state_dict()), whole(self.ema), whole(self.policy.reference)
        state = Checkpoint(step, weights, optimisers, self.stream.state_dict(), ema, reference, extra)
        if self.ranks.main:
            save_checkpoint(self.checkpoints, state, keep=self.settings.keep_checkpoints)

    def _resume(self) -> int:
        saved = load_checkpoint(self.checkpoints)
        self._check_resumed(saved)
        if saved is None:
            return 0
        self.policy.load_state_dict(saved.weights)
        for optimiser, state in zip(self.optimisers, saved.optimisers, strict=True):
            optimiser.load_state_dict(state)
            split_optimiser_state(optimiser)
        self.stream.load_state_dict(saved.stream)
        parameters = self.policy.parameters
        average = saved.ema and {name: split_like(each, parameters[name]) for name, each in saved.ema.items()}
        self.policy.average = average
        if saved.reference is not None:
            self.policy.load_reference(saved.reference)
        if isinstance(self.step, Stateful):
            self.step.load_state_dict(saved.extra.get("step", {}))
        for monitor, state in zip(self.monitors, saved.extra.get("monitors", ()), strict=False):
            monitor.load_state_dict(state)
        self.skipped, self.skipped_in_a_row = saved.extra.get("skipped", (0, 0))
        return saved.step

    def _check_resumed(self, saved: Checkpoint | None) -> None:
        """Refuse to go on from another step than the other ranks, or with another batch than the run began with."""
        step, ranks = (saved.step, saved.extra.get("ranks", 1)) if saved else (0, self.ranks.count)
        steps = self.ranks.gather(torch.tensor([step])).tolist()
        if len(set(steps)) > 1:
            raise ReelignError(
                f"The ranks found checkpoints of different steps in {self.checkpoints}: {steps}.",
                "Let all ranks see one folder.",
            )
        if ranks != self.ranks.count and step < self.settings.steps:
            raise ReelignError(
                f"This run began with {_processes(ranks)}, and {_processes(self.ranks.count)} would make other batches "
                "of the rest.",
                f"Start it with --nproc_per_node {ranks}, or give this one a name of its own (run=NAME).",
            )


def told(metrics: Mapping[str, float]) -> str:
    """What the bar says of a step; one that found nothing to learn from has no loss, and is counted by its stream."""
    return f"loss={metrics['loss']:.4f}" if "loss" in metrics else "no pair"


def _processes(count: int) -> str:
    return "one process" if count == 1 else f"{count} ranks"
