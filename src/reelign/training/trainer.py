"""The one training loop. It knows no algorithm: a step accumulates gradients, the loop does the rest."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor
from tqdm import tqdm

from reelign.errors import ReelignError
from reelign.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from reelign.training.interrupts import interrupt_between_steps
from reelign.training.metrics import MetricsLog
from reelign.training.policy import Policy
from reelign.training.streams import Stream

BatchT = TypeVar("BatchT")
BatchT_contra = TypeVar("BatchT_contra", contravariant=True)


class Step(Protocol[BatchT_contra]):
    """What a recipe brings: the gradients of one optimiser step."""

    def accumulate_gradients(self, policy: Policy, batch: BatchT_contra) -> dict[str, float]:
        """Add the gradient of the batch's MEAN loss to the parameters' `.grad` and return metrics to log.

        How many forwards and backwards that takes is the step's own affair; micro-batches must add up to the gradient
        of the whole batch.
        """
        ...


@runtime_checkable
class Stateful(Protocol):
    """Something whose state a checkpoint must hold, as JSON: a step with an automatic β, a monitor that counts."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Monitor(Stateful, Protocol):
    """Something that looks at the policy between steps."""

    def after_step(self, step: int, policy: Policy, metrics: dict[str, float]) -> dict[str, float]:
        """Further metrics after `step` steps; it leaves weights and all randomness as they are."""
        ...

    def verdict(self) -> str | None:
        """Why training must stop, or None."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerSettings:
    """Optimisation and bookkeeping of a run."""

    steps: int = 150
    learning_rate: float = 1e-4
    warmup_steps: int = 0
    schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    max_grad_norm: float = 1.0
    ema_decay: float = 0.0
    """Decay of a moving average of the weights; 0 keeps none."""
    checkpoint_every: int = 50
    keep_checkpoints: int = 2
    stop_after_skips: int = 3
    """A step without a finite loss and gradient changes nothing and is counted; so many in a row stop the run."""

    def __post_init__(self) -> None:
        for name in ("steps", "checkpoint_every", "keep_checkpoints", "stop_after_skips"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")

    def rate(self, step: int) -> float:
        """Share of the learning rate that the step with index `step` (0-based) takes, in [0, 1]."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.schedule == "cosine":
            done = max(0, step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
            warm *= 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return warm


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
        self.policy = policy
        self.stream = stream
        self.step = step
        self.settings = settings
        self.folder = folder
        self.title = title
        self.monitors = list(monitors)
        self.skipped = self.skipped_in_a_row = 0
        self.ema: dict[str, Tensor] | None = None
        self.optimisers = [self._adamw()] if optimisers is None else list(optimisers)
        self.learning_rates = [[group["lr"] for group in one.param_groups] for one in self.optimisers]

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def train(self) -> int:
        """Run to the last step and return the step it started from.

        The first Ctrl-C lets the step in hand finish, writes a checkpoint and raises KeyboardInterrupt.
        """
        start = self._resume()
        settings = self.settings
        log = MetricsLog(self.folder, start)
        bar = tqdm(total=settings.steps, initial=start, desc=self.title, unit="step")
        try:
            with interrupt_between_steps() as interrupted:
                for step in range(start, settings.steps):
                    if self.verdict() is not None:  # of a run that was stopped and is called again
                        break
                    metrics = self._one_step(step)
                    for monitor in self.monitors:
                        metrics.update(monitor.after_step(step + 1, self.policy, metrics))
                    log.write(step + 1, {name: value for name, value in metrics.items() if math.isfinite(value)})
                    bar.set_postfix(loss=f"{metrics['loss']:.4f}", refresh=False)
                    bar.update()
                    done = step + 1 == settings.steps or self.verdict() is not None
                    # Asked once: a Ctrl-C between two questions would end the run without its checkpoint.
                    stop = interrupted()
                    if done or stop or (step + 1) % settings.checkpoint_every == 0:
                        self._save(step + 1)
                    if stop and not done:
                        raise KeyboardInterrupt
        finally:
            bar.close()
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
        norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters.values(), self.settings.max_grad_norm)
        if math.isfinite(metrics["loss"]) and bool(torch.isfinite(norm)):
            self.skipped_in_a_row = 0
            for optimiser in self.optimisers:
                optimiser.step()
            self._update_ema()
        else:
            self._skip(step, batch)
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

    def _adamw(self) -> torch.optim.Optimizer:
        settings = self.settings
        return torch.optim.AdamW(
            self.policy.parameters.values(),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )

    def _update_ema(self) -> None:
        if not self.settings.ema_decay:
            return
        current = self.policy.state_dict()
        if self.ema is None:
            self.ema = {name: tensor.clone() for name, tensor in current.items()}
        for name, average in self.ema.items():
            average.lerp_(current[name], 1 - self.settings.ema_decay)

    def _save(self, step: int) -> None:
        optimisers = [optimiser.state_dict() for optimiser in self.optimisers]
        extra = {
            "step": self.step.state_dict() if isinstance(self.step, Stateful) else {},
            "monitors": [monitor.state_dict() for monitor in self.monitors],
            "skipped": [self.skipped, self.skipped_in_a_row],
        }
        state = Checkpoint(step, self.policy.state_dict(), optimisers, self.stream.state_dict(), self.ema, extra)
        save_checkpoint(self.checkpoints, state, keep=self.settings.keep_checkpoints)

    def _resume(self) -> int:
        saved = load_checkpoint(self.checkpoints)
        if saved is None:
            return 0
        self.policy.load_state_dict(saved.weights)
        for optimiser, state in zip(self.optimisers, saved.optimisers, strict=True):
            optimiser.load_state_dict(state)
        self.stream.load_state_dict(saved.stream)
        self.ema = saved.ema
        if isinstance(self.step, Stateful):
            self.step.load_state_dict(saved.extra.get("step", {}))
        for monitor, state in zip(self.monitors, saved.extra.get("monitors", ()), strict=False):
            monitor.load_state_dict(state)
        self.skipped, self.skipped_in_a_row = saved.extra.get("skipped", (0, 0))
        return saved.step
