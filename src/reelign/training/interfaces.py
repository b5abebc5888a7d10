"""What the loop asks of those it works with."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar, runtime_checkable

from reelign.training.policy import Policy

BatchT_contra = TypeVar("BatchT_contra", contravariant=True)


class Step(Protocol[BatchT_contra]):
    """What a recipe brings: the gradients of one optimiser step."""

    def accumulate_gradients(self, policy: Policy, batch: BatchT_contra) -> dict[str, float]:
        """Add the gradient of the batch's MEAN loss to the parameters' `.grad` and return metrics to log.

        How many forwards and backwards that takes is the step's own affair; micro-batches must add up to the gradient
        of the whole batch. Metrics without a `loss` say that there was nothing to learn from: the weights stay as they
        are, and the step is neither good nor bad.
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
