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
from reelign.recipes.offline.reference_cache import ReferenceCache, SlottedBatch
from reelign.recipes.settings import StepSettings
from reelign.recipes.steps.draws import draw_for, micro_batches, part, take
from reelign.recipes.steps.pair_errors import goes_apart, pair_errors
from reelign.training import Draw, PairBatch, Policy, velocity_errors


class DPOStep:
    """Flow-DPO on latents: the two sides of a pair share sigma and noise.

    With `settings.two_pass` the slope of the loss in each error is found without gradients, and then multiplies the
    gradient of one video's error after the other: ∇L = Σ ∂L/∂error · ∇error, so that only one video's activations live
    at a time.

    Args:
        objective: its β under the mean reduction.
        settings: noise levels, micro-batches and the anchor on chosen videos.
        cache: reference errors, for batches of a `SlottedStream`; None asks the reference every time.
    """

    def __init__(self, objective: DPO, settings: StepSettings, *, cache: ReferenceCache | None = None) -> None:
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
            with torch.set_grad_enabled(not self.settings.two_pass):
                error, reference, asked = self._errors(policy, batch, draw, rows)
            at = error.requires_grad_() if self.settings.two_pass else error
            (self._loss(at, reference, part(beta, rows), part(weight, rows)).sum() / pairs).backward()
            if self.settings.two_pass:
                assert at.grad is not None
                self._second_pass(policy, batch, draw, rows, at.grad)
            errors.append(error.detach())
            references.append(reference)
            unknown.append(asked)
        error, reference, asked = (policy.ranks.gather(torch.cat(each)) for each in (errors, references, unknown))
        if self.cache is not None:
            assert isinstance(batch, SlottedBatch)
            self.cache.keep(batch.visits, reference, asked, write=policy.ranks.main)
        metrics = self._metrics(error, reference, beta, weight, level)
        # Two graded of the policy, with two passes two ungraded too, and two of the reference where it was asked.
        own = 4 if self.settings.two_pass else 2
        return {**metrics, "forwards_per_pair": own + 2 * int(asked.sum()) / pairs}

    def _draw(self, policy: Policy, batch: PairBatch) -> Draw:
        if self.cache is None:
            return draw_for(batch.latents[:, 0].shape, self.settings, policy.generator, batch.seed)
        assert isinstance(batch, SlottedBatch)
        return self.cache.draw(batch.visits, batch.latents.shape[2:])

    def _errors(self, policy: Policy, batch: PairBatch, draw: Draw, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Errors (pairs, 2) of policy and reference, and (pairs,) of which pairs the reference was asked."""
        pairs = batch.latents[rows].to(policy.generator.device)
        conditioning = take(batch.conditioning, rows)
        apart = goes_apart(self.settings, policy.generator, pairs.shape[2:])
        if self.cache is None:
            both = pair_errors(policy, pairs, conditioning, draw[rows], apart=apart)
            return both["policy"], both["reference"], torch.ones(len(pairs), dtype=torch.bool)
        assert isinstance(batch, SlottedBatch)
        reference, asked = self.cache.reference(policy, batch.visits[rows], pairs, conditioning, draw[rows])
        own = pair_errors(policy, pairs, conditioning, draw[rows], weights=("policy",), apart=apart)
        return own["policy"], reference, asked

    def _second_pass(self, policy: Policy, batch: PairBatch, draw: Draw, rows: slice, slopes: Tensor) -> None:
        """Back through one video at a time, each by the slope (pairs, 2) of the loss in its error."""
        for row, slope in zip(range(rows.start, rows.stop), slopes, strict=True):
            one = slice(row, row + 1)
            conditioning = take(batch.conditioning, one)
            for side in (0, 1):
                latents = batch.latents[one, side].to(policy.generator.device)
                error = velocity_errors(policy, latents, conditioning, draw[one], weights=("policy",))["policy"]
                (slope[side] * error).sum().backward()

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
