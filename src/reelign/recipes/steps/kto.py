"""The step of Diffusion-KTO: a pass without gradients for the batch's baseline, then one with."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.generators.base import Conditioning
from reelign.objectives import KTO, beta_at, kto_baseline
from reelign.recipes.settings import StepSettings
from reelign.recipes.steps.draws import draw_for, micro_batches, part, take
from reelign.training import Draw, Policy, VideoBatch, velocity_errors
from reelign.training.policy import Weights


class KTOStep:
    """KTO on latents; `batch.values` says which videos are desirable.

    The baseline is taken over the whole accumulated batch of all ranks before any gradient, so that micro-batches add
    up to the gradient of the big batch. The reference's errors of that pass are used again: two forwards without
    gradients and one with per video, one of each where the batch goes through the model in one piece, and two more for
    a mismatched baseline.

    Args:
        objective: its β under the mean reduction.
        settings: noise levels and micro-batches.
    """

    def __init__(self, objective: KTO, settings: StepSettings) -> None:
        if objective.reduction != "mean":
            raise ValueError("a step takes β under the mean reduction; convert it with mean_beta")
        self.objective = objective
        self.settings = settings

    def accumulate_gradients(self, policy: Policy, batch: VideoBatch) -> dict[str, float]:
        if batch.values is None:
            raise ValueError("a batch for KTO needs the videos' labels as values")
        objective, device = self.objective, policy.generator.device
        desirable = batch.values.bool().to(device)
        _warn_of_one_class(desirable)
        draw = draw_for(batch.latents.shape, self.settings, policy.generator, batch.seed)
        beta = beta_at(objective.beta, draw.sigma, objective.schedule)
        parts = list(micro_batches(len(batch.latents), self.settings.micro_batch_size, policy.ranks))
        # In one piece the errors that carry gradients are those that the baseline is taken over.
        at_once = self._graded(policy, batch, draw, parts[0]) if len(parts) == 1 else None
        error, reference = self._measure(policy, batch, draw, batch.conditioning, known=at_once)
        if objective.baseline == "mismatched":
            baseline = kto_baseline(*self._measure(policy, batch, draw, under_other_prompts(batch.conditioning)))
        else:
            baseline = kto_baseline(error, reference)
        total = 0.0
        for rows in parts:
            graded = self._graded(policy, batch, draw, rows) if at_once is None else at_once
            losses = objective.weighted(
                graded, reference[rows], desirable[rows], beta=part(beta, rows), baseline=baseline
            )
            loss = losses.sum() / len(batch.latents)
            loss.backward()
            total += float(loss.detach())
        return {"loss": policy.ranks.sum(total), **_metrics(reference - error, desirable, baseline)}

    def _graded(self, policy: Policy, batch: VideoBatch, draw: Draw, rows: slice) -> Tensor:
        """The policy's errors (videos,) of some rows, with gradients."""
        latents, conditioning = batch.latents[rows].to(policy.generator.device), take(batch.conditioning, rows)
        return velocity_errors(policy, latents, conditioning, draw[rows], weights=("policy",))["policy"]

    @torch.no_grad()
    def _measure(
        self, policy: Policy, batch: VideoBatch, draw: Draw, conditioning: Conditioning, known: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Errors of policy and reference, (videos,) each, over the batch of all ranks and without gradients; `known`
        are those of the policy, where they have been found."""
        found = []
        weights: tuple[Weights, ...] = ("policy", "reference") if known is None else ("reference",)
        for rows in micro_batches(len(batch.latents), self.settings.micro_batch_size, policy.ranks):
            latents = batch.latents[rows].to(policy.generator.device)
            found.append(velocity_errors(policy, latents, take(conditioning, rows), draw[rows], weights=weights))
        reference = torch.cat([each["reference"] for each in found])
        error = torch.cat([each["policy"] for each in found]) if known is None else known.detach()
        return policy.ranks.gather(error), policy.ranks.gather(reference)


def under_other_prompts(conditioning: Conditioning) -> Conditioning:
    """Every video under the prompt of the nearest video before it, around the end, that has another one.

    Raises:
        ReelignError: all have the same.
    """
    count = len(conditioning)

    def same(one: int, other: int) -> bool:
        return all(torch.equal(tensor[one], tensor[other]) for tensor in conditioning.tensors.values())

    rows = []
    for row in range(count):
        others = (other % count for other in range(row - 1, row - count, -1))
        found = next((other for other in others if not same(row, other)), None)
        if found is None:
            raise ReelignError(
                f"All {count} videos of a batch have one prompt, and a mismatched baseline needs another one.",
                "Raise batch_size, or set objective.baseline=matched.",
            )
        rows.append(found)
    return conditioning.take(torch.tensor(rows))


def _warn_of_one_class(desirable: Tensor) -> None:
    if bool(desirable.all()) or not bool(desirable.any()):
        kind = "desirable" if bool(desirable.all()) else "undesirable"
        warnings.warn(
            f"A KTO batch holds {kind} videos alone, and its baseline takes away most of their signal. "
            "Raise batch_size, or bring labels of both kinds.",
            stacklevel=3,
        )


def _metrics(gain: Tensor, desirable: Tensor, baseline: Tensor) -> dict[str, float]:
    ranked = torch.where(desirable, gain > baseline, gain < baseline).float() + 0.5 * (gain == baseline).float()
    metrics = {"implicit_accuracy": float(ranked.mean()), "baseline": float(baseline)}
    for name, kind in (("desirable_error_gap", desirable), ("undesirable_error_gap", ~desirable)):
        if bool(kind.any()):
            metrics[name] = float(-gain[kind].mean())
    return metrics
