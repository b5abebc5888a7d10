"""Where a reward's gradient flows on a sampler's steps: which of them are run, and how many of the last have a graph.

With z_0 the start, z_{i+1} = step_i(z_i) and N steps, the gradient of r(z_N) with respect to the weights is cut:

    last      ∂/∂θ through the last K steps, z_{N-K} held constant: DRaFT-K (Clark et al. 2023, arXiv:2309.17400), with
              K = 1 VADER's default (Prabhudesai et al. 2024, arXiv:2407.08737), with K = N the whole chain
    random    K drawn evenly from 1 to a bound: AlignProp's randomised truncation (arXiv:2310.03739)
    renoised  the finished sample, noised again to the last step's level n times and denoised by that step: DRaFT-LV
    one_step  a random late step, then the one-step estimate of the clean latents: ReFL (Xu et al. 2023,
              arXiv:2304.05977). The estimate `z - sigma·velocity` is the Euler step from that level to the clean end
    noisy     one random step, and the rollout ends behind it: PRFL (arXiv:2511.21541), for rewards on noisy latents

What comes before runs without gradients. The one-step estimate and the last step make each of these the same thing:
levels to visit, and a number of steps at their end that carry gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reelign.errors import ReelignError

StepFunction = Callable[[Tensor, int], Tensor]
"""(noisy_latents (B, C, F, H, W), index of the step) -> the latents after it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LastSteps:
    """Gradient through the last K steps."""

    name: Literal["last"] = "last"
    steps: int = 1
    """K. One step sees the fine detail that the last level leaves open; more reach layout and motion."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")

    def route(self, sigmas: Tensor, chance: torch.Generator) -> Route:
        _check_steps("gradient.steps", self.steps, sigmas)
        return Route(sigmas, self.steps)

    def beginnings(self, sigmas: Tensor) -> range:
        """The steps at which the gradient may begin, by their indices."""
        return range(len(sigmas) - 1 - self.steps, len(sigmas) - self.steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomSteps:
    """Gradient through a random number of the last steps."""

    name: Literal["random"] = "random"
    most: int | None = None
    """K is drawn evenly from 1 to this number; None is all steps."""

    def __post_init__(self) -> None:
        if self.most is not None and self.most < 1:
            raise ValueError(f"most must be at least 1, got {self.most}")

    def route(self, sigmas: Tensor, chance: torch.Generator) -> Route:
        most = len(sigmas) - 1 if self.most is None else self.most
        _check_steps("gradient.most", most, sigmas)
        return Route(sigmas, 1 + int(torch.randint(most, (), generator=chance)))

    def beginnings(self, sigmas: Tensor) -> range:
        """As of `LastSteps`."""
        steps = len(sigmas) - 1
        return range(steps - (steps if self.most is None else self.most), steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class Renoised:
    """Gradient through the last step alone, from several noisings of the finished sample: less variance for K = 1."""

    name: Literal["renoised"] = "renoised"
    times: int = 2
    """n. The loss is the mean over them; each is decoded and scored."""

    def __post_init__(self) -> None:
        if self.times < 1:
            raise ValueError(f"times must be at least 1, got {self.times}")

    def route(self, sigmas: Tensor, chance: torch.Generator) -> Route:
        return Route(sigmas, 1, renoisings=self.times)

    def beginnings(self, sigmas: Tensor) -> range:
        """As of `LastSteps`."""
        return range(len(sigmas) - 2, len(sigmas) - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class OneStep:
    """Gradient through the one-step estimate at a random late step."""

    name: Literal["one_step"] = "one_step"
    window: tuple[float, float] = (0.75, 1.0)
    """Which steps, as shares of the schedule; ReFL's are the steps 30 to 39 of 40."""

    def __post_init__(self) -> None:
        _check_window(self.window)

    def route(self, sigmas: Tensor, chance: torch.Generator) -> Route:
        at = _step_within(self.window, sigmas, chance)
        return Route(torch.cat([sigmas[: at + 1], sigmas[-1:]]), 1, estimate=True)

    def beginnings(self, sigmas: Tensor) -> range:
        """As of `LastSteps`."""
        return _steps_within(self.window, sigmas)


@dataclass(frozen=True, kw_only=True, slots=True)
class NoisyStep:
    """Gradient through one random step, behind which a latent reward reads the latents as noisy as they are."""

    name: Literal["noisy"] = "noisy"
    window: tuple[float, float] = (0.0, 1.0)
    """Which steps, as shares of the schedule. Early ones settle layout and motion, and cost the fewest steps before."""

    def __post_init__(self) -> None:
        _check_window(self.window)

    def route(self, sigmas: Tensor, chance: torch.Generator) -> Route:
        end = _step_within(self.window, sigmas, chance) + 2
        return Route(sigmas[:end], 1, noisy=end < len(sigmas))

    def beginnings(self, sigmas: Tensor) -> range:
        """As of `LastSteps`."""
        return _steps_within(self.window, sigmas)


Truncation = LastSteps | RandomSteps | Renoised | OneStep | NoisyStep


@dataclass(frozen=True)
class Route:
    """The levels that a rollout visits, and how many of the last steps between them carry gradient."""

    sigmas: Tensor
    """(steps + 1,) decreasing."""
    graded: int
    renoisings: int = 0
    """How often the finished sample is noised again for the graded step; 0 goes on from where the prefix ended."""
    estimate: bool = False
    """Whether the last step is an estimate: no sampler's noise belongs in it."""
    noisy: bool = False
    """Whether the rollout ends above the clean end of the schedule."""

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    @property
    def prefix(self) -> int:
        """Steps that run without gradients before the graded ones."""
        return self.steps if self.renoisings else self.steps - self.graded


@dataclass(frozen=True)
class Trace:
    """Steps that were run without gradients, with what is needed to run each again by itself."""

    inputs: list[Tensor]
    """The latents before each step, in order."""
    first: int
    """Index of the first of them."""
    latents: Tensor
    """After the last."""


def starting_at(sigmas: Tensor, level: float) -> Tensor:
    """The tail of a schedule from the level nearest to the given one: what InstructVideo denoises real videos on.

    Yuan et al. 2023 (arXiv:2312.12490) noise a video to a level and run the sampler's steps from there alone.

    Raises:
        ReelignError: the nearest level is the clean end, from which there is no step.
    """
    start = int((sigmas - level).abs().argmin())
    if start == len(sigmas) - 1:
        raise ReelignError(
            f"Of the schedule's {len(sigmas) - 1} steps none begins near the level {level:g}.",
            "Begin at a higher level, or sample in more steps.",
        )
    return sigmas[start:]


@torch.no_grad()
def run(step: StepFunction, noisy: Tensor, steps: int) -> Tensor:
    """The latents after so many steps from the first on, without gradients."""
    for index in range(steps):
        noisy = step(noisy, index)
    return noisy


@torch.no_grad()
def traced(step: StepFunction, noisy: Tensor, first: int, count: int) -> Trace:
    """Run steps without gradients and keep what each began with."""
    inputs = []
    for index in range(first, first + count):
        inputs.append(noisy)
        noisy = step(noisy, index)
    return Trace(inputs, first, noisy)


def through(step: StepFunction, noisy: Tensor, first: int, count: int) -> Tensor:
    """The latents after `count` steps with the graph of all of them; `noisy` is held constant."""
    noisy = noisy.detach()
    for index in range(first, first + count):
        noisy = step(noisy, index)
    return noisy


def staged_backward(step: StepFunction, trace: Trace, gradient: Tensor) -> None:
    """Add the weights' gradient of a loss after the steps to their `.grad`, one step's graph at a time.

    Exact: the vector-Jacobian product of a chain is the product of its links', taken from the last to the first. Each
    step is run a second time, and never do two steps' activations live together.

    Args:
        step: the same function of latents and weights that made the trace.
        trace: of the steps that carry gradient.
        gradient: of the loss with respect to `trace.latents`.
    """
    for place in reversed(range(len(trace.inputs))):
        # The first step's input is a constant; asking for its gradient would cost a product that nobody reads.
        leaf = trace.inputs[place].detach().requires_grad_(place > 0)
        after = step(leaf, trace.first + place)
        torch.autograd.backward(after, gradient)
        if place > 0:
            assert leaf.grad is not None
            gradient = leaf.grad


def _check_steps(field: str, wanted: int, sigmas: Tensor) -> None:
    steps = len(sigmas) - 1
    if wanted > steps:
        raise ReelignError(
            f"{field}={wanted} asks for a gradient through more steps than the schedule's {steps}.",
            f"Set it to at most {steps}, or sample in more steps (num_inference_steps under rollout or generate).",
        )


def _check_window(window: tuple[float, float]) -> None:
    low, high = window
    if not 0 <= low < high <= 1:
        raise ValueError(f"window must be two increasing shares in [0, 1], got {window}")


def _step_within(window: tuple[float, float], sigmas: Tensor, chance: torch.Generator) -> int:
    """The index of a step drawn evenly from those between two shares of the schedule."""
    within = _steps_within(window, sigmas)
    return within.start + int(torch.randint(len(within), (), generator=chance))


def _steps_within(window: tuple[float, float], sigmas: Tensor) -> range:
    steps = len(sigmas) - 1
    first, end = (round(share * steps) for share in window)
    if first == end:
        raise ReelignError(
            f"gradient.window={list(window)} holds none of the schedule's {steps} steps.",
            "Widen it, or sample in more steps.",
        )
    return range(first, end)
