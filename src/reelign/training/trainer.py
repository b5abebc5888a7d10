"""The one training loop. It knows no algorithm: a step accumulates gradients, the loop does the rest."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from reelign.errors import ReelignError
from reelign.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
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


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerSettings:
    """Optimisation (AdamW) and bookkeeping of a run."""

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

    def __post_init__(self) -> None:
        for name in ("steps", "checkpoint_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")

    def rate(self, step: int) -> float:
        """Learning rate of the step with index `step` (0-based)."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.schedule == "cosine":
            done = max(0, step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
            warm *= 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return self.learning_rate * warm


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
    ) -> None:
        self.policy = policy
        self.stream = stream
        self.step = step
        self.settings = settings
        self.folder = folder
        self.title = title
        self.ema: dict[str, Tensor] | None = None
        self.optimiser = torch.optim.AdamW(
            policy.parameters.values(),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )

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
            with _interrupt_between_steps() as interrupted:
                for step in range(start, settings.steps):
                    metrics = self._one_step(step)
                    log.write(step + 1, metrics)
                    bar.set_postfix(loss=f"{metrics['loss']:.4f}", refresh=False)
                    bar.update()
                    done = step + 1 == settings.steps
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
        rate = self.settings.rate(step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        metrics = self.step.accumulate_gradients(self.policy, self.stream.next_batch())
        norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters.values(), self.settings.max_grad_norm)
        if not bool(torch.isfinite(norm)):
            raise ReelignError(
                f"The gradient at step {step + 1} is not finite (norm {float(norm)}); its weights were not changed.",
                "Lower the learning rate, or start again from an earlier checkpoint.",
            )
        self.optimiser.step()
        self._update_ema()
        return {**metrics, "grad_norm": float(norm), "learning_rate": rate, "seconds": time.perf_counter() - began}

    def _update_ema(self) -> None:
        if not self.settings.ema_decay:
            return
        current = self.policy.state_dict()
        if self.ema is None:
            self.ema = {name: tensor.clone() for name, tensor in current.items()}
        for name, average in self.ema.items():
            average.lerp_(current[name], 1 - self.settings.ema_decay)

    def _save(self, step: int) -> None:
        state = Checkpoint(
            step, self.policy.state_dict(), self.optimiser.state_dict(), self.stream.state_dict(), self.ema
        )
        save_checkpoint(self.checkpoints, state, keep=self.settings.keep_checkpoints)

    def _resume(self) -> int:
        saved = load_checkpoint(self.checkpoints)
        if saved is None:
            return 0
        self.policy.load_state_dict(saved.weights)
        self.optimiser.load_state_dict(saved.optimiser)
        self.stream.load_state_dict(saved.stream)
        self.ema = saved.ema
        return saved.step


@contextmanager
def _interrupt_between_steps() -> Iterator[Any]:
    """Turn the first Ctrl-C into a flag, so that no step is torn; the second acts at once."""
    caught = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield caught.is_set
        return

    def handle(number: int, frame: Any) -> None:
        if caught.is_set():
            raise KeyboardInterrupt
        caught.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield caught.is_set
    finally:
        signal.signal(signal.SIGINT, before)
