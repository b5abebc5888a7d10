"""Steps on pairs: Diffusion-DPO, Flow-DPO and IPO's composition."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reelign.objectives import (
    DPO,
    AutoBeta,
    anchored_loss,
    beta_at,
    dpo_loss,
    gradient_factor,
    implicit_accuracy,
    implicit_margin,
)
from reelign.recipes.draws import draw_for, micro_batches, part, take
from reelign.recipes.reference_cache import ReferenceCache, SlottedBatch
from reelign.recipes.settings import AlignSettings
from reelign.training import Draw, PairBatch, Policy, velocity_errors


class DPOStep:
    """Flow-DPO on latents: the two sides of a pair share sigma and noise and go through the model together.

    Args:
        objective: its β under the mean reduction.
        settings: noise levels, micro-batches and the anchor on chosen videos.
        cache: reference errors, for batches of a `SlottedStream`; None asks the reference every time.
    """

    def __init__(self, objective: DPO, settings: AlignSettings, *, cache: ReferenceCache | None = None) -> None:
        if objective.reduction != "mean":
            raise ValueError("a step takes β under the mean reduction; convert it with mean_beta")
        self.objective = objective
        self.settings = settings
        self.cache = cache
        target = objective.target_factor
        self.auto = None if target is None else AutoBeta(objective.beta, target=target)

    def accumulate_gradients(self, policy: Policy, batch: PairBatch) -> dict[str, float]:
        pairs, device = len(batch.latents), policy.generator.device
        draw = self._draw(policy, batch)
        level = self.objective.beta if self.auto is None else self.auto.beta
        beta = beta_at(level, draw.sigma, self.objective.schedule)
        weight = 1.0 if batch.values is None else batch.values.to(device)
        errors, references, unknown = [], [], []
        for rows in micro_batches(pairs, self.settings.micro_batch_size, policy.ranks):
            error, reference, asked = self._errors(policy, batch, draw, rows)
            (self._loss(error, reference, part(beta, rows), part(weight, rows)).sum() / pairs).backward()
            errors.append(error.detach())
            references.append(reference)
            unknown.append(asked)
        error, reference, asked = (policy.ranks.gather(torch.cat(each)) for each in (errors, references, unknown))
        if self.cache is not None:
            assert isinstance(batch, SlottedBatch)
            self.cache.keep(batch.visits, reference, asked, write=policy.ranks.main)
        metrics = self._metrics(error, reference, beta, weight, level)
        # Two graded of the policy, and two ungraded of the reference where it was asked.
        return {**metrics, "forwards_per_pair": 2 + 2 * int(asked.sum()) / pairs}

    def _draw(self, policy: Policy, batch: PairBatch) -> Draw:
        if self.cache is None:
            return draw_for(batch.latents[:, 0].shape, self.settings, policy.generator, batch.seed)
        assert isinstance(batch, SlottedBatch)
        return self.cache.draw(batch.visits, batch.latents.shape[2:])

    def _errors(self, policy: Policy, batch: PairBatch, draw: Draw, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Errors (pairs, 2) of policy and reference, and (pairs,) of which pairs the reference was asked."""
        pairs = batch.latents[rows].to(policy.generator.device)
        latents, conditioning, shared = pairs.flatten(0, 1), take(batch.conditioning, rows, 2), draw[rows].repeat(2)
        if self.cache is None:
            both = velocity_errors(policy, latents, conditioning, shared)
            asked = torch.ones(len(pairs), dtype=torch.bool)
            return both["policy"].unflatten(0, (-1, 2)), both["reference"].unflatten(0, (-1, 2)), asked
        assert isinstance(batch, SlottedBatch)
        own = take(batch.conditioning, rows)
        reference, asked = self.cache.reference(policy, batch.visits[rows], pairs, own, draw[rows])
        error = velocity_errors(policy, latents, conditioning, shared, weights=("policy",))["policy"]
        return error.unflatten(0, (-1, 2)), reference, asked

    def _loss(self, error: Tensor, reference: Tensor, beta: float | Tensor, weight: float | Tensor) -> Tensor:
        loss = weight * dpo_loss(error, reference, beta=beta)
        if not self.settings.anchors.chosen:
            return loss
        return anchored_loss(loss, chosen_error=error[:, 0], chosen_weight=self.settings.anchors.chosen)

    def _metrics(
        self, error: Tensor, reference: Tensor, beta: float | Tensor, weight: float | Tensor, level: float
    ) -> dict[str, float]:
        gap = (error - reference).mean(dim=0)
        factor = float(gradient_factor(error, reference, beta=beta).mean())
        metrics = {
            "loss": float(self._loss(error, reference, beta, weight).mean()),
            "implicit_accuracy": implicit_accuracy(error, reference),
            "margin": float(implicit_margin(error, reference).mean()),
            # Each apart: DPO may fall by making both worse, and a chosen gap that rises is the first sign of collapse.
            "chosen_error_gap": float(gap[0]),
            "rejected_error_gap": float(gap[1]),
            "chosen_error": float(error[:, 0].mean()),
            "gradient_factor": factor,
        }
        if self.auto is not None:
            # After the whole batch, so that micro-batches of one step share one β.
            self.auto.update(factor)
            metrics["beta"] = level
        return metrics

    def state_dict(self) -> dict[str, Any]:
        return {} if self.auto is None else self.auto.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.auto is not None:
            self.auto.load_state_dict(state)
