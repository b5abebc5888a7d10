"""Reward gradients of long videos: segments that go on from one another, taken back link by link and one at a time.

With z_s the latents of segment s, x_s its pixels, c_s what it is given of the last frame of x_{s-1}, and r the reward
of the joined clip:

    ∂r/∂x_s  from r, and through c_{s+1} from the segment after        (`through: all`; else of the last segment alone)
    ∂r/∂z_s  by the decoder's vector-Jacobian product, decoded anew
    ∂r/∂θ, ∂r/∂c_s  by the sampler steps that carry gradient, each run again
    ∂r/∂x_{s-1}  through what reads the image

VADER (Prabhudesai et al. 2024, arXiv:2407.08737) trains an image-to-video model on V-JEPA's loss so. Steps before those
that carry gradient are run without, and what they make of c_s is held constant as all else that they make.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.diffusion.truncation import Trace, staged_backward, traced
from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator
from reelign.recipes.online.feedback import LATENT
from reelign.recipes.reward_gradient.scoring import PixelLoss
from reelign.recipes.reward_gradient.settings import RewardGradientSettings
from reelign.recipes.reward_gradient.stream import RolloutBatch
from reelign.recipes.sampling import Sampling
from reelign.training.graded_rollout import GradedRollout
from reelign.training.long_rollouts import going_on, segment_seeds
from reelign.training.staged_clamp import clamp_video
from reelign.training.staged_decode import DecodeSettings, decoded, decoded_gradient
from reelign.video.long_clips import LongClip

EXACT = ("reverse", "chunk", "whole")
"""Modes of the decode that give all frames and the whole gradient."""


def check_long(generator: Generator, settings: RewardGradientSettings, sampling: Sampling) -> None:
    """Refuse settings that long videos do not have.

    Raises:
        ReelignError: such a setting, or a gradient through images of a family that hands on none.
    """
    if sampling.segments == 1:
        if settings.through == "all":
            raise ReelignError(
                "through=all takes the gradient through all segments, and there is one.",
                "Set rollout.segments, or leave through out.",
            )
        return
    wanted = {
        "gradient.name": (settings.gradient.name, ("last", "random")),
        "graph": (settings.graph, ("step",)),
        "decode.mode": (settings.decode.mode, EXACT),
    }
    if settings.reward.name.startswith(LATENT):
        raise ReelignError(
            f"{settings.reward.name} reads the latents of one segment, and here are {sampling.segments}.",
            "Take a reward on pixels, or set rollout.segments=1.",
        )
    for name, (given, known) in wanted.items():
        if given not in known:
            raise ReelignError(
                f"{name}={given} is of clips of one segment, and here are {sampling.segments}.",
                f"Set {name} to {' or '.join(known)}.",
            )
    if settings.edit_from is not None:
        raise ReelignError(
            f"edit_from begins with real clips, and {sampling.segments} segments begin with an image and go on.",
            "Leave edit_from out, or set rollout.segments=1.",
        )
    if settings.through == "all" and not generator.grades_images:
        raise ReelignError(
            f"What {generator.model} makes of an image hands on no gradient, and through=all goes through it.",
            "Set through=last, or use Wan I2V, Wan 2.2 TI2V or Stable Video Diffusion.",
        )
    settings.frames.check(_choosable(settings, sampling)[1])


def _choosable(settings: RewardGradientSettings, sampling: Sampling) -> tuple[int, int]:
    """The first frame of a long clip that `frames` may choose, and how many there are: those the gradient reaches."""
    clip = LongClip(sampling.segments, sampling.size.num_frames)
    first = clip.joints[-1] + 1 if settings.through == "last" else 0
    return first, clip.length - first


def long_frames(
    loss: PixelLoss, settings: RewardGradientSettings, sampling: Sampling, chance: torch.Generator
) -> tuple[int, int, list[int]]:
    """The first frame of the clip that may be chosen, how many there are from it on, and the chosen ones of the clip.

    `frames.count` chooses among those that the gradient reaches; without it the reward reads what it reads of the whole
    clip.

    Raises:
        ReelignError: fewer than the reward needs, a window outside, or none that the gradient reaches.
    """
    clip = LongClip(sampling.segments, sampling.size.num_frames)
    first, count = _choosable(settings, sampling)
    own = settings.frames.choose(count, chance)
    if own is None:
        first, count = 0, clip.length
        own = list(loss.reward.frames_read(count) or range(count))
    chosen = [first + frame for frame in own]
    needed = loss.reward.frames_needed
    if len(chosen) < needed:
        raise ReelignError(
            f"The reward {loss.reward.name!r} needs {needed} frames, and it would see {len(chosen)}.",
            "Raise frames.count, or make longer videos.",
        )
    if settings.through == "last" and not clip.within(chosen)[-1]:
        raise ReelignError(
            f"The reward {loss.reward.name!r} reads no frame of the last segment, which through=last trains.",
            "Set through=all.",
        )
    return first, count, chosen


@dataclass
class _Segment:
    """What is kept of one segment until the gradient comes back to it: latents, and pixels that are read again."""

    rollout: GradedRollout
    trace: Trace
    latents: Tensor
    frames: list[int]
    """Its frames that were decoded: those of the reward, and the last one where a segment follows."""
    given: Tensor | None
    """(B, 3, H, W) in [0, 1] the frame that it goes on from; None in the first segment."""
    image: Conditioning | None
    """What was made of that."""


@dataclass(frozen=True)
class LongClimb:
    """What one micro-batch came to; its gradient is in the weights."""

    made: list[tuple[Tensor, Conditioning]]
    """Latents (B, C, F, H, W) of each segment that carries gradient, and what it was made of."""
    scores: dict[str, Tensor]
    loss: float
    calls: int
    """Of the guided velocity, all segments together."""


class LongRollout:
    """Rolls out a micro-batch of long videos and takes a reward's gradient back through them.

    Never do two segments' activations, or two steps', live together: of a segment its latents, the latents before each
    step that carries gradient, what it was given and the pixels that the reward reads are kept. The price is a decode
    more of each segment.
    """

    def __init__(self, loss: PixelLoss, settings: RewardGradientSettings, sampling: Sampling) -> None:
        self.loss = loss
        self.settings = settings
        self.sampling = sampling
        self.clip = LongClip(sampling.segments, sampling.size.num_frames)
        self.first = sampling.segments - 1 if settings.through == "last" else 0
        """The first segment that carries gradient."""

    def climb(self, rollout: GradedRollout, batch: RolloutBatch, rows: slice, scale: float) -> LongClimb:
        """Add the gradient of a batch's videos at `rows`, times `scale`; the rollout is of their first segment."""
        start, count, chosen = long_frames(
            self.loss, self.settings, self.sampling, generator_from(batch.seed, "frames")
        )
        wanted = self.clip.within(chosen)
        segments, pixels = self._rolled_out(rollout, wanted)
        leaf = torch.cat(pixels[self.first :], dim=1).requires_grad_()
        with torch.enable_grad():
            video = torch.cat([*pixels[: self.first], leaf], dim=1)
            places = None if len(chosen) == count else [frame - start for frame in chosen]
            loss, scores = self.loss(video, batch.prompts[rows], places, count, scale)
        (gradient,) = torch.autograd.grad(loss, leaf)
        del video, leaf
        parts = gradient.split([part.shape[1] for part in pixels[self.first :]], dim=1)
        del pixels
        graded = segments[self.first :]
        self._taken_back(graded, wanted[self.first :], list(parts))
        made = [(each.latents, each.rollout.conditioning) for each in graded]
        calls = sum(each.rollout.plain + each.rollout.graded for each in segments)
        return LongClimb(made, scores, float(loss.detach()), calls)

    @torch.no_grad()
    def _rolled_out(self, begun: GradedRollout, wanted: list[list[int]]) -> tuple[list[_Segment], list[Tensor]]:
        """Segments up to the last that the reward reads, and of each the pixels that it does, (B, n, 3, H, W)."""
        generator, size = begun.generator, self.sampling.size
        own, guidance = begun.conditioning, begun.guidance
        found: list[_Segment] = []
        pixels: list[Tensor] = []
        given, image = None, None
        # What nobody reads is not made.
        reached = max(place for place, frames in enumerate(wanted) if frames) + 1
        for place in range(reached):
            if image is not None:
                own, guidance = going_on(own, guidance, image)
            seeds = segment_seeds(begun.seeds, place)
            rollout = GradedRollout(generator, own, guidance, begun.sampler, begun.route, seeds)
            (noisy,) = rollout.graded_inputs(rollout.start(generator.latent_shape(size)))
            trace = traced(rollout.step, noisy, rollout.first, begun.route.graded)
            latents = rollout.finish(trace.latents)
            follows = place + 1 < reached
            frames = sorted({*wanted[place], *([size.num_frames - 1] if follows else [])})
            found.append(_Segment(rollout, trace, latents, frames, given, image))
            video = decoded(generator, latents, self._decode(frames))
            pixels.append(video[:, [frames.index(frame) for frame in wanted[place]]].clone())
            if follows:
                given = clamp_video(video[:, -1], "hard").clone()
                image = generator.continue_from(given, size).to(generator.device)
        return found, pixels

    def _taken_back(self, segments: list[_Segment], wanted: list[list[int]], gradients: list[Tensor]) -> None:
        """From the last segment to the first that carries gradient, of whose pixels (B, n, 3, H, W) it is given."""
        carried: Tensor | None = None
        for place in reversed(range(len(segments))):
            segment, upstream = segments[place], gradients.pop()
            whole = upstream.new_zeros(len(upstream), len(segment.frames), *upstream.shape[2:])
            whole[:, [segment.frames.index(frame) for frame in wanted[place]]] = upstream
            if carried is not None:
                whole[:, -1] += carried
            image = self._through(segment, whole, to_image=place > 0)
            carried = self._to_frame(segment, image) if image else None

    def _through(self, segment: _Segment, gradient: Tensor, *, to_image: bool) -> dict[str, Tensor]:
        """Add the weights' gradient of a segment whose frames have this one; what reaches the image it was given."""
        rollout, trace = segment.rollout, segment.trace
        generator = rollout.generator

        def along(video: Tensor) -> Tensor:
            return (video * gradient.to(video)).sum()

        found = decoded_gradient(generator, segment.latents, along, self._decode(segment.frames)).latents
        leaf = trace.latents.detach().requires_grad_()
        with torch.enable_grad():
            latents = rollout.finish(leaf)
        (found,) = torch.autograd.grad(latents, leaf, found)
        as_given = rollout.conditioning, rollout.guidance
        leaves: dict[str, Tensor] = {}
        if to_image and segment.image is not None:
            leaves = {name: tensor.detach().requires_grad_() for name, tensor in segment.image.tensors.items()}
            rollout.conditioning, rollout.guidance = going_on(*as_given, Conditioning(leaves))
        before = rollout.graded
        staged_backward(rollout.step, trace, found)
        rollout.check_length(before, len(trace.inputs))
        rollout.conditioning, rollout.guidance = as_given
        return {name: tensor.grad for name, tensor in leaves.items() if tensor.grad is not None}

    def _to_frame(self, segment: _Segment, gradients: dict[str, Tensor]) -> Tensor:
        """The gradient (B, 3, H, W) of the frame that a segment went on from, by that of what was made of it."""
        assert segment.given is not None, "the first segment goes on from no frame"
        leaf = segment.given.detach().requires_grad_()
        with torch.enable_grad():
            image = segment.rollout.generator.continue_from(leaf, self.sampling.size)
        outputs = [image[name] for name in gradients]
        upstream = [each.to(output) for output, each in zip(outputs, gradients.values(), strict=True)]
        (found,) = torch.autograd.grad(outputs, leaf, upstream)
        return found

    def _decode(self, frames: list[int]) -> DecodeSettings:
        return replace(self.settings.decode, frames=tuple(frames))
