"""The step of an online run: the objective's own on what was made, and the distance to the first base."""

from __future__ import annotations

from typing import Any

import torch

from reelign.diffusion.seeds import seed_from
from reelign.recipes.online.settings import OnlineSettings
from reelign.recipes.online.stream import OnlineBatch, OnlineStream
from reelign.recipes.steps.draws import draw_for, micro_batches
from reelign.recipes.steps.video import AnchoredBatch
from reelign.training import PairBatch, Policy, Stateful, Step, VideoBatch, base_distance


class OnlineStep:
    """Any step on an online batch; a batch without samples moves nothing, and its metrics have no loss.

    Beside the inner step's metrics, `base_distance`: mean ‖v_policy - v_base‖² on the samples of the step, at draws of
    their own. With `settings.distance.anchor` its multiple is a part of the loss.
    """

    def __init__(self, inner: Step[Any], settings: OnlineSettings) -> None:
        self.inner = inner
        self.settings = settings
        self.steps = 0

    def accumulate_gradients(self, policy: Policy, batch: OnlineBatch) -> dict[str, float]:
        self.steps += 1
        if batch.batch is None:
            return batch.metrics
        own = batch.batch if batch.real is None else AnchoredBatch(batch.batch, batch.real)
        metrics = {**self.inner.accumulate_gradients(policy, own), **batch.metrics}
        anchor = self.settings.distance.anchor
        if anchor or self.steps % self.settings.distance.every == 1 or self.settings.distance.every == 1:
            metrics["base_distance"] = self._distance(policy, batch.batch, anchor)
            metrics["loss"] += anchor * metrics["base_distance"]
        return metrics

    def _distance(self, policy: Policy, batch: PairBatch | VideoBatch, anchor: float) -> float:
        """The mean distance over the global batch, and `anchor` times its gradient; without, over a part of it."""
        pairs = isinstance(batch, PairBatch)
        latents = batch.latents.flatten(0, 1) if pairs else batch.latents
        draw = draw_for(latents.shape, self.settings, policy.generator, seed_from(batch.seed, "distance"))
        total, counted = 0.0, 0
        for rows in micro_batches(len(latents), self.settings.micro_batch_size, policy.ranks):
            if not anchor and counted >= self.settings.distance.videos:
                break
            if not anchor:
                rows = slice(rows.start, min(rows.stop, rows.start + self.settings.distance.videos - counted))
            conditioning = batch.conditioning.take(torch.arange(rows.start, rows.stop) // (2 if pairs else 1))
            with torch.set_grad_enabled(anchor > 0):
                found = base_distance(policy, latents[rows].to(policy.generator.device), conditioning, draw[rows])
            if anchor:
                (anchor * found.sum() / len(latents)).backward()
            total, counted = total + float(found.detach().sum()), counted + len(found)
        return policy.ranks.sum(total) / policy.ranks.sum(counted)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "inner": self.inner.state_dict() if isinstance(self.inner, Stateful) else {}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        if isinstance(self.inner, Stateful):
            self.inner.load_state_dict(state["inner"])


class Settles:
    """A monitor before all others: what looks on after a step decodes and scores alone, as does a checkpoint."""

    def __init__(self, stream: OnlineStream) -> None:
        self.stream = stream

    def after_step(self, step: int, policy: Policy, metrics: dict[str, float]) -> dict[str, float]:
        self.stream.settle()
        return {}

    def verdict(self) -> str | None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is nothing to remember."""
