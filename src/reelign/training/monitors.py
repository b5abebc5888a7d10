"""Monitors that tell the truth: what the policy does to pairs that it never trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reelign.diffusion.flow import add_noise, velocity_target
from reelign.diffusion.seeds import generator_from
from reelign.generators.base import Conditioning
from reelign.objectives.dpo import implicit_accuracy
from reelign.training.errors import Draw
from reelign.training.policy import Policy
from reelign.training.streams import SharedLatents

QUARTERS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class MonitorSettings:
    """What is watched on held-out pairs, and when training must end."""

    held_out: float = 0.0
    """Share of the prompts whose preferences are kept out of training and watched; 0 watches none."""
    every: int = 25
    """Steps between two looks; one look takes 16 forwards without gradients a pair."""
    max_pairs: int = 32
    """At most so many held-out pairs are looked at."""
    max_chosen_rise: float | None = None
    """Stop when the chosen videos' error stands above the first base's by this share of it, `patience` looks in a row.
    Their likelihood then falls: the policy gets better at telling videos apart by getting worse at making them."""
    patience: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out must be a share in [0, 1), got {self.held_out}")
        for name in ("every", "max_pairs", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_chosen_rise is not None and not self.max_chosen_rise >= 0:
            raise ValueError(f"max_chosen_rise must be at least 0, got {self.max_chosen_rise}")
        if self.max_chosen_rise is not None and not self.held_out:
            raise ValueError(f"max_chosen_rise={self.max_chosen_rise} is measured on held-out pairs; set held_out too")


class HeldOutPairs:
    """Looks at pairs of a held-out split, each at one fixed draw in every quarter of the family's training levels.

    The draws are the same at every look, so that two looks differ by the policy alone. Where a moving average is kept
    it is looked at, since it is what the run leaves; metrics of the training batches are of the weights that train.
    Metrics, with errors as the
    family's own loss weighs them:

        held_out/accuracy_q1 … q4      implicit accuracy, from the cleanest quarter to the noisiest; ½ knows nothing
        held_out/accuracy              over all
        held_out/chosen_error_gap      error of the chosen videos, policy minus base; above 0 is the sign of collapse
        held_out/rejected_error_gap    the same of the rejected
        held_out/distance              mean squared distance of the policy's velocity to the first base's

    Args:
        latents: (pairs, 2, C, F, H, W), column 0 chosen.
        conditioning: one row a pair.
        settings: how often, how many, when to stop.
        micro_batch_size: pairs that go through the model at once.
        seed: of the draws.
    """

    def __init__(
        self,
        latents: Tensor | SharedLatents,
        conditioning: Conditioning,
        settings: MonitorSettings,
        *,
        micro_batch_size: int = 16,
        seed: int = 0,
    ) -> None:
        count = min(len(latents), settings.max_pairs)
        self.latents = latents[:count]
        self.conditioning = conditioning.take(torch.arange(count))
        self.settings = settings
        self.micro_batch_size = micro_batch_size
        self.seed = seed
        self.rises = 0
        """Looks in a row at which the chosen error stood too high."""

    def after_step(self, step: int, policy: Policy, metrics: dict[str, float]) -> dict[str, float]:
        return self.look(policy) if step % self.settings.every == 0 else {}

    @torch.no_grad()
    def look(self, policy: Policy) -> dict[str, float]:
        """The metrics of the policy, or of its average, as it stands."""
        with policy.using("average"):
            found = [self._quarter(policy, quarter) for quarter in range(QUARTERS)]
        errors, references, distances = zip(*found, strict=True)
        metrics = {
            f"held_out/accuracy_q{quarter + 1}": implicit_accuracy(errors[quarter], references[quarter])
            for quarter in range(QUARTERS)
        }
        error, reference = torch.cat(errors), torch.cat(references)
        gap = (error - reference).mean(dim=0)
        metrics["held_out/accuracy"] = implicit_accuracy(error, reference)
        metrics["held_out/chosen_error_gap"] = float(gap[0])
        metrics["held_out/rejected_error_gap"] = float(gap[1])
        metrics["held_out/distance"] = float(torch.cat(distances).mean())
        self._count(float(gap[0] / reference[:, 0].mean()))
        return metrics

    def verdict(self) -> str | None:
        if self.rises < self.settings.patience:
            return None
        return (
            f"the error of held-out chosen videos stood more than {self.settings.max_chosen_rise:.0%} above the base's "
            f"at {self.rises} looks in a row"
        )

    def state_dict(self) -> dict[str, Any]:
        return {"rises": self.rises}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rises = state["rises"]

    def _count(self, rise: float) -> None:
        limit = self.settings.max_chosen_rise
        self.rises = self.rises + 1 if limit is not None and rise > limit else 0

    def _quarter(self, policy: Policy, quarter: int) -> tuple[Tensor, Tensor, Tensor]:
        """Errors of policy and base, (pairs, 2) each, and the distance between the two, (pairs, 2)."""
        generator = policy.generator
        found: list[list[Tensor]] = [[], [], []]
        drawn = self._draw(policy, quarter)
        for rows in policy.ranks.share(len(self.latents)).split(self.micro_batch_size):
            draw = drawn[rows].repeat(2)
            latents = self.latents[rows].flatten(0, 1).to(generator.device)
            conditioning = self.conditioning.take(rows.repeat_interleave(2)).to(generator.device)
            noisy = add_noise(latents, draw.noise, draw.sigma)
            target = velocity_target(latents, draw.noise).float()
            predicted = generator.velocity(noisy, draw.sigma, conditioning).float()
            with policy.using("base"):  # the first one, wherever the reference has moved since
                base = generator.velocity(noisy, draw.sigma, conditioning).float()
            weight = generator.path.native_weight(draw.sigma).float()
            found[0].append(weight * _mean_square(predicted - target))
            found[1].append(weight * _mean_square(base - target))
            found[2].append(_mean_square(predicted - base))
        own = (torch.cat(each).unflatten(0, (-1, 2)).cpu() for each in found)
        errors, references, distances = (policy.ranks.gather(each)[: len(self.latents)] for each in own)
        return errors, references, distances

    def _draw(self, policy: Policy, quarter: int) -> Draw:
        """One draw a pair with its level in the quarter; the same at every look."""
        chance = generator_from(self.seed, "held out", quarter)
        quantiles = (quarter + torch.rand(len(self.latents), generator=chance)) / QUARTERS
        noise = torch.randn(self.latents[:, 0].shape, generator=chance)
        device = policy.generator.device
        return Draw(policy.generator.path.training_sigmas(quantiles).to(device), noise.to(device))


def _mean_square(difference: Tensor) -> Tensor:
    return difference.square().flatten(1).mean(dim=1)
