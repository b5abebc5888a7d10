"""The step of reward gradients: a rollout, then back through the reward, the decoder and the last sampler steps."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.diffusion.truncation import Route, staged_backward, starting_at, through, traced
from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator
from reelign.recipes.reward_gradient.latent import LatentLoss
from reelign.recipes.reward_gradient.scoring import PixelLoss
from reelign.recipes.reward_gradient.segments import LongRollout
from reelign.recipes.reward_gradient.settings import RewardGradientSettings
from reelign.recipes.reward_gradient.stream import RolloutBatch
from reelign.recipes.sampling import Sampling
from reelign.recipes.steps.draws import draw_for, micro_batches, take
from reelign.training import Policy, base_distance
from reelign.training.asked import against
from reelign.training.graded_rollout import GradedRollout
from reelign.training.staged_decode import DecodedGradient, chosen_pieces, decoded_gradient

Sample = tuple[Tensor, Conditioning]
"""Clean latents (B, C, F, H, W) of a clip, and what it was made of."""


def route_for(
    generator: Generator, settings: RewardGradientSettings, sampling: Sampling, chance: torch.Generator
) -> Route:
    """The levels of one step's rollouts, and which of their last steps carry gradient.

    Raises:
        ReelignError: the schedule of so many steps is too short for what the settings ask.
    """
    return settings.gradient.route(schedule(generator, settings, sampling), chance)


def schedule(generator: Generator, settings: RewardGradientSettings, sampling: Sampling) -> Tensor:
    """(steps + 1,) the levels that a whole rollout visits."""
    sigmas = generator.sigmas(sampling.steps, generator.latent_shape(sampling.size))
    return sigmas if settings.edit_from is None else starting_at(sigmas, settings.edit_from)


def chosen_frames(
    loss: PixelLoss, generator: Generator, settings: RewardGradientSettings, num_latents: int, chance: torch.Generator
) -> tuple[int, list[int] | None]:
    """How many frames there are to choose from, and the chosen ones; None is all that the decode gives.

    Raises:
        ReelignError: fewer than the reward needs, or a window outside the clip.
    """
    pieces, _ = chosen_pieces(generator.decoder, num_latents - generator.padding, settings.decode)
    clip = pieces[-1].frames.stop
    chosen = settings.frames.choose(clip, chance)
    count = clip if chosen is None else len(chosen)
    needed = loss.reward.frames_needed
    if count < needed:
        raise ReelignError(
            f"The reward {loss.reward.name!r} needs {needed} frames, and it would see {count}.",
            "Raise decode.first, or take another decode.mode."
            if settings.decode.mode == "first" and chosen is None
            else "Raise frames.count, or make longer videos.",
        )
    if chosen is None:
        read = loss.reward.frames_read(clip)
        chosen = None if read is None else list(read)
    return clip, chosen


class RewardGradientStep:
    """Adds the gradient of a batch's mean loss, one micro-batch at a time.

    Whatever `gradient` says, what carries gradient is a number of sampler steps at the end of a route. With z the
    latents before them, x the pixels and r the reward, the chain rule is taken link by link: ∂r/∂x with the pixels as a
    leaf, ∂x/∂z by the decoder's vector-Jacobian product, then each sampler step's, last to first. Reward, decoder and
    sampler never hold their activations together, and the result is that of one graph of all. A latent reward takes the
    place of reward and decoder.

    Metrics: `loss`; `reward` as weighted and `reward/DIMENSION`, means over the videos with a score; `reward/failed`
    videos so far; `reward/queries` and `forwards` so far, the reward's cost and the denoiser's (guidance's two sides
    are two, and running a step again on the way back one); `gradient/steps`; `decode/outside`, the share of pixels
    outside [0, 1] before the clamp, of videos of one segment; `base_distance` with a reference.

    Args:
        loss: the reward, on pixels or on latents.
        settings: what carries gradient and how.
        sampling: how the videos are made.
        negative: one row, of guidance's text.
    """

    def __init__(
        self,
        loss: PixelLoss | LatentLoss,
        settings: RewardGradientSettings,
        sampling: Sampling,
        negative: Conditioning,
    ) -> None:
        self.loss = loss
        self.settings = settings
        self.sampling = sampling
        self.negative = negative
        self.queries = 0
        self.forwards = 0
        self._outside: list[float] = []
        """Of the decodes of the batch under way, the share of pixels outside [0, 1]."""

    def accumulate_gradients(self, policy: Policy, batch: RolloutBatch) -> dict[str, float]:
        """As of `training.Step`: add the batch's gradient to the policy's weights; the metrics of all ranks.

        Raises:
            ReelignError: the reward scored nothing, or no gradient of it came back, before one ever did.
        """
        generator, settings = policy.generator, self.settings
        route = route_for(generator, settings, self.sampling, generator_from(batch.seed, "route"))
        count = len(batch.prompts)
        distance = 0.0
        losses: list[float] = []
        scores: list[dict[str, Tensor]] = []
        for rows in micro_batches(count, settings.micro_batch_size, policy.ranks):
            rollout = self._rollout(generator, route, batch, rows)
            if self.sampling.segments > 1:
                made, seen, value = self._climb_long(rollout, batch, rows, 1 / count)
            else:
                made, seen, value = self._climb(rollout, batch, rows, 1 / count)
            losses.append(value)
            scores.append(seen)
            if settings.objective.reference:
                for latents, conditioning in made:
                    distance += self._hold(policy, latents, batch, rows, conditioning, 1 / len(made))
        values = {
            name: policy.ranks.gather(torch.cat([each[name] for each in scores]).cpu())[:count] for name in scores[0]
        }
        self.loss.end_batch(values, batch.names, policy.ranks)
        return self._metrics(policy, route, sum(losses), values, distance)

    def _rollout(self, generator: Generator, route: Route, batch: RolloutBatch, rows: slice) -> GradedRollout:
        own = take(batch.conditioning, rows).to(generator.device)
        guidance = self.sampling.guidance(against(own, self.negative))
        return GradedRollout(generator, own, guidance, self.settings.sampler, route, batch.seeds[rows])

    def _climb(
        self, rollout: GradedRollout, batch: RolloutBatch, rows: slice, scale: float
    ) -> tuple[list[Sample], dict[str, Tensor], float]:
        """One micro-batch: what was made, its scores and its part of the loss; the gradient is in the weights."""
        generator, route = rollout.generator, rollout.route
        shape = generator.latent_shape(self.sampling.size)
        start = rollout.start(shape, None if batch.real is None else batch.real[rows])
        parts = max(1, route.renoisings)
        seen: list[dict[str, Tensor]] = []
        value = 0.0
        made = start
        for noisy in rollout.graded_inputs(start):
            before = rollout.graded
            if self.settings.graph == "held":
                graph = through(rollout.step, noisy, rollout.first, route.graded)
                latents = rollout.finish(graph)
                loss, upstream = self._scored(rollout, latents, batch, rows, scale / parts, seen)
                torch.autograd.backward(latents, upstream)
            else:
                trace = traced(rollout.step, noisy, rollout.first, route.graded)
                leaf = trace.latents.requires_grad_()
                with torch.enable_grad():
                    latents = rollout.finish(leaf)
                loss, upstream = self._scored(rollout, latents, batch, rows, scale / parts, seen)
                (gradient,) = torch.autograd.grad(latents, leaf, upstream)
                staged_backward(rollout.step, trace, gradient)
            rollout.check_length(before, route.graded)
            value += float(loss)
            made = latents.detach()
        sides = rollout.generator.passes(rollout.guidance.scale)
        self.queries += len(made) * parts
        self.forwards += sides * (rollout.plain + rollout.graded) * len(made)
        mean = {name: torch.stack([each[name] for each in seen]).mean(dim=0) for name in seen[0]}
        return [(made, rollout.conditioning)], mean, value

    def _climb_long(
        self, rollout: GradedRollout, batch: RolloutBatch, rows: slice, scale: float
    ) -> tuple[list[Sample], dict[str, Tensor], float]:
        """As `_climb`, of videos of several segments."""
        assert isinstance(self.loss, PixelLoss), "a latent reward is refused where there are several segments"
        found = LongRollout(self.loss, self.settings, self.sampling).climb(rollout, batch, rows, scale)
        videos = len(rollout.seeds)
        self.queries += videos
        self.forwards += rollout.generator.passes(rollout.guidance.scale) * found.calls * videos
        return found.made, found.scores, found.loss

    def _scored(
        self,
        rollout: GradedRollout,
        latents: Tensor,
        batch: RolloutBatch,
        rows: slice,
        scale: float,
        seen: list[dict[str, Tensor]],
    ) -> tuple[Tensor, Tensor]:
        """The loss () of what a rollout came to, and its gradient with respect to the latents."""
        if isinstance(self.loss, LatentLoss):
            leaf = latents.detach().requires_grad_()
            with torch.enable_grad():
                loss, scores = self.loss(leaf, rollout.level(leaf), rollout.conditioning, scale)
            seen.append(scores)
            (gradient,) = torch.autograd.grad(loss, leaf)
            return loss.detach(), gradient
        found = self._decoded(self.loss, rollout.generator, latents, batch, rows, scale, seen)
        return found.loss, found.latents

    def _decoded(
        self,
        pixel_loss: PixelLoss,
        generator: Generator,
        latents: Tensor,
        batch: RolloutBatch,
        rows: slice,
        scale: float,
        seen: list[dict[str, Tensor]],
    ) -> DecodedGradient:
        """The loss on the decoded frames and its gradient with respect to the latents."""
        clip, chosen = chosen_frames(
            pixel_loss, generator, self.settings, latents.shape[2], generator_from(batch.seed, "frames")
        )

        def loss_of_pixels(video: Tensor) -> Tensor:
            loss, scores = pixel_loss(video, batch.prompts[rows], chosen, clip, scale)
            seen.append(scores)
            return loss

        settings = replace(self.settings.decode, frames=None if chosen is None else tuple(chosen))
        found = decoded_gradient(generator, latents, loss_of_pixels, settings)
        self._outside.append(found.metrics["decode/outside"])
        return found

    def _hold(
        self,
        policy: Policy,
        latents: Tensor,
        batch: RolloutBatch,
        rows: slice,
        conditioning: Conditioning,
        share: float,
    ) -> float:
        """Add the reference's pull at the videos just made, or at a segment that is this share of them; their part of
        the mean distance."""
        count, weight = len(batch.prompts), self.settings.objective.reference
        whole = (count, *latents.shape[1:])
        draw = draw_for(whole, self.settings.anchor_steps(), policy.generator, batch.seed)[rows]
        distance = share * base_distance(policy, latents, conditioning, draw).sum() / count
        (weight * distance).backward()
        self.forwards += 2 * len(latents)
        return float(distance.detach())

    def _metrics(
        self,
        policy: Policy,
        route: Route,
        loss: float,
        scores: dict[str, Tensor],
        distance: float,
    ) -> dict[str, float]:
        """Of the batch of all ranks; loss and distance are this rank's part."""
        ranks, objective = policy.ranks, self.settings.objective
        means: dict[str, float] = {}
        for name, values in scores.items():
            known = values[values.isfinite()]
            means[f"reward/{name}"] = float(known.mean()) if len(known) else math.nan
        counted = {name: weight for name, weight in self.loss.weights.items() if weight}
        reward = sum(weight * means[f"reward/{name}"] for name, weight in counted.items())
        loss = ranks.sum(loss)
        if math.isnan(reward):  # not one video was scored: the loop passes the step over
            loss = math.nan
        held = ranks.sum(distance)
        metrics = {
            "loss": loss + objective.reference * held,
            "reward": reward,
            **means,
            "reward/failed": float(len(self.loss.failures)),
            "reward/queries": ranks.sum(float(self.queries)),
            "forwards": ranks.sum(float(self.forwards)),
            "gradient/steps": float(route.graded),
        }
        if self._outside:
            metrics["decode/outside"] = ranks.sum(sum(self._outside) / len(self._outside)) / ranks.count
            self._outside.clear()
        return {**metrics, "base_distance": held} if objective.reference else metrics

    def state_dict(self) -> dict[str, Any]:
        failures = self.loss.failures
        return {
            "queries": self.queries,
            "forwards": self.forwards,
            "failed": failures.samples,
            "seen": failures.seen,
            "reached": self.loss.reached,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.queries, self.forwards = state["queries"], state["forwards"]
        self.loss.failures.samples = {name: tuple(lacking) for name, lacking in state["failed"].items()}
        self.loss.failures.seen = state["seen"]
        self.loss.reached = state.get("reached", False)  # older checkpoints look once more
