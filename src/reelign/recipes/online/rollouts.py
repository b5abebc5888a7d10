"""Rollouts of an online run: the candidates of a step over all ranks, with the judge while others are sampled."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from reelign.diffusion.seeds import seed_from
from reelign.recipes.online.counts import AtOnce, Clock
from reelign.recipes.online.feedback import Feedback, Shown
from reelign.recipes.online.samples import Picks, Samples
from reelign.recipes.online.settings import OnlineSettings
from reelign.training import Policy
from reelign.training.policy import Weights
from reelign.training.rollouts import Group, Rollout, Sampler, next_groups


@dataclass(frozen=True)
class Sampled:
    """A rollout whose candidates are with the judge."""

    groups: list[Group]
    """Over all ranks."""
    latents: Tensor
    """(groups, candidates, C, F, H, W) of this rank."""
    scores: list[Future[Tensor]]
    """Of each part that was sampled together, (groups, dimensions, candidates)."""
    made_at: int
    """Steps that were begun when it was sampled."""
    clock: Clock
    judging: Clock


class Rollouts:
    """Samples and has judged; every rank its own prompts, with scores and chosen latents gathered.

    Args:
        policy: what samples; its generator's VAE is there where the feedback needs pixels.
        sampler: how.
        feedback: the judge.
        settings: how many, and when they are judged.
        prompts: row of the sampler's sides is place in the list.
        fps: of the videos.
    """

    def __init__(
        self,
        policy: Policy,
        sampler: Sampler,
        feedback: Feedback,
        settings: OnlineSettings,
        prompts: Sequence[str],
        *,
        fps: float,
    ) -> None:
        self.policy = policy
        self.sampler = sampler
        self.feedback = feedback
        self.settings = settings
        self.prompts = list(prompts)
        self.fps = fps
        self.judge: Executor = ThreadPoolExecutor(1) if settings.overlap or settings.ahead else AtOnce()

    def begin(self, number: int, step: int) -> Sampled:
        """This rank's candidates of a rollout, each part handed to the judge at once; `step` steps were begun."""
        groups, clock = self.groups(number), Clock(self.policy.generator.device)
        weights: Weights = "base" if self.settings.rollouts == "base" else "policy"
        judging = clock if isinstance(self.judge, AtOnce) else Clock(clock.device)
        parts, scores = [], []
        with clock.time("rollout"):
            for rollout in self.sampler.roll_out(self.policy, self._own(groups), weights=weights):
                scores.append(self.judge.submit(self._scores, rollout, judging))
                parts.append(rollout.latents)
        return Sampled(groups, torch.cat(parts), scores, step, clock, judging)

    def scores(self, now: Sampled) -> dict[str, Tensor]:
        """All ranks' scores {dimension: (groups, candidates)}; a candidate that is not finite has none."""
        with now.clock.time("waiting"):
            scores = torch.cat([each.result() for each in now.scores])
        now.clock.seconds |= now.judging.seconds
        together = self.policy.ranks.gather(scores).unbind(dim=1)
        return dict(zip(self.feedback.dimensions, together, strict=True))

    def chosen(self, now: Sampled, picked: Picks) -> Samples | None:
        """What was chosen of all ranks' candidates; None where nothing was."""
        groups, held = now.groups, now.latents
        there = picked.places.unflatten(1, (-1, picked.sides))[..., 0] >= 0
        if not bool(there.any()):
            return None
        own = picked.places[self.policy.ranks.rows(len(groups))].clamp(min=0).to(held.device)
        kept = torch.stack([group[places] for group, places in zip(held, own, strict=True)])
        every = self.policy.ranks.gather(kept)
        rows = there.nonzero()[:, 0].tolist()
        return Samples(
            every.unflatten(1, (-1, *([picked.sides] if picked.sides > 1 else [])))[there.to(every.device)],
            torch.tensor([groups[row].row for row in rows]),
            torch.full((len(rows),), now.made_at),
            None if picked.values is None else picked.values[there],
            tuple(repr(groups[row].prompt) for row in rows),
        )

    def groups(self, number: int) -> list[Group]:
        """Those of a rollout over all ranks."""
        count, candidates = self.settings.prompts * self.policy.ranks.count, self.settings.rollout.candidates
        return next_groups(self.prompts, number * count, count, candidates=candidates, seed=self.settings.seed)

    def candidates(self, ahead: Sampled) -> Samples:
        """All ranks' candidates of a rollout, to be judged again by a run that goes on: the same scores."""
        rows = torch.tensor([group.row for group in ahead.groups])
        return Samples(self.policy.ranks.gather(ahead.latents), rows, torch.full((len(rows),), ahead.made_at))

    def begin_again(self, number: int, held: Samples) -> Sampled:
        """What `candidates` kept of a rollout, with the judge once more, in the parts in which it was sampled."""
        groups, clock = self.groups(number), Clock(self.policy.generator.device)
        own = self.policy.ranks.rows(len(groups))
        judging = Clock(clock.device)
        parts = self.sampler.parts(groups[own], held.latents[own])
        scores = [self.judge.submit(self._scores, part, judging) for part in parts]
        return Sampled(groups, held.latents[own], scores, int(held.made_at[0]), clock, judging)

    def _own(self, groups: list[Group]) -> list[Group]:
        return groups[self.policy.ranks.rows(len(groups))]

    @torch.no_grad()
    def _scores(self, rollout: Rollout, clock: Clock) -> Tensor:
        """(groups, dimensions, candidates) of what was sampled together."""
        seed = seed_from(self.settings.seed, "judge", *(each for group in rollout.groups for each in group.seeds))
        with clock.time("score"):
            found = self.feedback.scores(Shown(rollout, self.policy.generator, self.sampler, self.fps, seed, clock))
        lost = ~rollout.latents.isfinite().flatten(2).all(dim=2).cpu()
        return torch.stack([found[name].masked_fill(lost, torch.nan) for name in self.feedback.dimensions], dim=1)
