"""Settings of the one loop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainerSettings:
    """Optimisation and bookkeeping of a run."""

    steps: int = 150
    learning_rate: float = 1e-4
    warmup_steps: int = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Of the learning rate after the warm-up: kept, or falling towards 0."""
    optimiser: Literal["adamw", "adamw_8bit"] = "adamw"
    """`adamw_8bit` keeps its moments in a quarter of the memory (bitsandbytes): worth it for full fine-tuning."""
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    max_grad_norm: float = 1.0
    ema_decay: float = 0.0
    """Decay of a moving average of the weights, which becomes the adapter; 0 keeps none. It begins at the weights after
    the first step, of which `ema_decay ** (steps - 1)` is left at the end: 0.2 % of 300 steps at 0.98, but 90 % of 100
    at 0.999."""
    ema_warmup: bool = False
    """Begin with a small decay, min(ema_decay, (1 + n) / (10 + n)) after n steps, so that the first weights are soon
    forgotten whatever the decay; for runs shorter than some 3 / (1 - ema_decay) steps."""
    checkpoint_every: int = 50
    checkpoint_minutes: float = 0.0
    """A checkpoint also after so many minutes without one; 0 goes by steps alone."""
    keep_checkpoints: int = 2
    check_ranks_every: int = 100
    """Steps after which the weights of all ranks are compared; a difference stops the run."""
    activation_checkpointing: Literal["none", "full", "selective"] = "none"
    """Run the denoiser's blocks again in the backward pass: much less memory, about a third more time, the same
    gradients. `selective` keeps what attention gives, which is worth its memory from some 8,000 tokens on."""
    sharded: bool = False
    """Split all weights over the ranks (FSDP2), for a model that does not fit on one device."""
    stop_after_skips: int = 3
    """A step without a finite loss and gradient changes nothing and is counted; so many in a row stop the run."""

    def __post_init__(self) -> None:
        for name in ("steps", "checkpoint_every", "keep_checkpoints", "stop_after_skips", "check_ranks_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be positive, got {self.max_grad_norm}")
        for name in ("warmup_steps", "weight_decay", "checkpoint_minutes"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be a share in [0, 1), got {self.ema_decay}")
        if self.ema_warmup and not self.ema_decay:
            raise ValueError("ema_warmup is of a moving average; set ema_decay too")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be shares in [0, 1), got {self.betas}")

    def decay(self, updates: int) -> float:
        """Decay of the moving average after so many steps before this one."""
        return min(self.ema_decay, (1 + updates) / (10 + updates)) if self.ema_warmup else self.ema_decay

    def rate(self, step: int) -> float:
        """Share of the learning rate that the step with index `step` (0-based) takes, in [0, 1]."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        done = min(1.0, max(0, step - self.warmup_steps) / max(1, self.steps - self.warmup_steps))
        if self.schedule == "cosine":
            warm *= 0.5 * (1 + math.cos(math.pi * done))
        elif self.schedule == "linear":
            warm *= 1 - done
        return warm
