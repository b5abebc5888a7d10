"""Steps on single videos without a reference: SFT, reward-weighted regression, and the anchor on real data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from reelign.objectives import RWR, SFT
from reelign.recipes.settings import StepSettings
from reelign.recipes.steps.draws import draw_for, micro_batches, take
from reelign.training import Policy, Stateful, Step, Stream, VideoBatch, velocity_errors

BatchT = TypeVar("BatchT")


class SFTStep:
    """Supervised fine-tuning on latents; with RWR each video's error counts by its weight, `batch.values`."""

    def __init__(self, objective: SFT | RWR, settings: StepSettings, *, scale: float = 1.0) -> None:
        self.objective = objective
        self.settings = settings
        self.scale = scale
        """Multiplies the gradient, not the loss that is reported."""

    def accumulate_gradients(self, policy: Policy, batch: VideoBatch) -> dict[str, float]:
        videos, device = len(batch.latents), policy.generator.device
        draw = draw_for(batch.latents.shape, self.settings, policy.generator, batch.seed)
        total = 0.0
        for rows in micro_batches(videos, self.settings.micro_batch_size, policy.ranks):
            latents = batch.latents[rows].to(device)
            found = velocity_errors(policy, latents, take(batch.conditioning, rows), draw[rows], weights=("policy",))
            if isinstance(self.objective, RWR):
                if batch.values is None:
                    raise ValueError("a batch for RWR needs the videos' weights as values")
                losses = self.objective(found["policy"], batch.values[rows].to(device))
            else:
                losses = self.objective(found["policy"])
            loss = losses.sum() / videos
            (self.scale * loss if self.scale != 1 else loss).backward()
            total += float(loss.detach())
        return {"loss": policy.ranks.sum(total)}


@dataclass(frozen=True)
class AnchoredBatch(Generic[BatchT]):
    """A batch of the objective's own and one of real videos."""

    batch: BatchT
    real: VideoBatch

    @property
    def names(self) -> tuple[str, ...]:
        return (*getattr(self.batch, "names", ()), *self.real.names)


class AnchoredStream(Generic[BatchT]):
    """Two streams side by side."""

    def __init__(self, stream: Stream[BatchT], real: Stream[VideoBatch]) -> None:
        self.stream = stream
        self.real = real

    def next_batch(self) -> AnchoredBatch[BatchT]:
        return AnchoredBatch(self.stream.next_batch(), self.real.next_batch())

    def state_dict(self) -> dict[str, Any]:
        return {"objective": self.stream.state_dict(), "real": self.real.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.stream.load_state_dict(state["objective"])
        self.real.load_state_dict(state["real"])


class DataAnchorStep(Generic[BatchT]):
    """Any step, plus λ times the denoising error of real videos: IPO's second term, DDRL's anchor (`anchored_loss`)."""

    def __init__(self, inner: Step[BatchT], settings: StepSettings) -> None:
        self.inner = inner
        self.weight = settings.anchors.real
        self.anchor = SFTStep(SFT(), settings, scale=self.weight)

    def accumulate_gradients(self, policy: Policy, batch: AnchoredBatch[BatchT]) -> dict[str, float]:
        metrics = self.inner.accumulate_gradients(policy, batch.batch)
        real = self.anchor.accumulate_gradients(policy, batch.real)["loss"]
        return {**metrics, "loss": metrics["loss"] + self.weight * real, "real_error": real}

    def state_dict(self) -> dict[str, Any]:
        return self.inner.state_dict() if isinstance(self.inner, Stateful) else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if isinstance(self.inner, Stateful):
            self.inner.load_state_dict(state)
