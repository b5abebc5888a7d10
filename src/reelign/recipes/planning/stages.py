"""The stages of a run on tensors without values, each measured: encoding, sampling, decoding, judging, learning."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reelign.generators.base import Conditioning, Generator, VideoSize
from reelign.objectives import DPO
from reelign.recipes.online.settings import OnlineSettings
from reelign.recipes.online.step import OnlineStep
from reelign.recipes.online.stream import OnlineBatch
from reelign.recipes.planning.model import LATENTS, REWARD, Forwards, rows, telling
from reelign.recipes.planning.rewards import on_shapes
from reelign.recipes.sampling import Sampling
from reelign.recipes.settings import StepSettings
from reelign.recipes.steps.objective import objective_step
from reelign.recipes.steps.video import AnchoredBatch
from reelign.rewards.base import Reward
from reelign.training import PairBatch, Policy, VideoBatch
from reelign.training.asked import Sides
from reelign.training.memory import META, ShapeMemory, as_on_a_device
from reelign.training.rollouts import Group, Sampler

PROMPT = "a red ring moves left"
STEPS = 2
"""Of a planned rollout: memory is the same for any number, and the number of forwards follows from it."""


@dataclass(frozen=True)
class Measured:
    """What a stage takes beside what is there before it."""

    by: dict[str, int]
    """Bytes when most lives, by the part that made them, such as the denoiser or the decoder."""
    host: int
    """In the host's memory at most."""
    forwards: Forwards


def measured(generator: Generator, held: Sequence[nn.Module | Tensor], work: Callable[[ShapeMemory], None]) -> Measured:
    """Run the work without values.

    Args:
        generator: on the meta device; its parts tell what runs.
        held: what is there before.
        work: handed the memory, to label what runs beside the generator's parts.
    """
    before = [[*each.parameters(), *each.buffers()] if isinstance(each, nn.Module) else each for each in held]
    memory = ShapeMemory(before)
    memory.label = LATENTS
    with telling(memory, generator) as forwards, memory, as_on_a_device(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        work(memory)
    # What was there before bears no label.
    return Measured({name: size for name, size in memory.at_peak.items() if name}, memory.host_peak, forwards)


def encode_text(generator: Generator, held: Sequence[nn.Module]) -> tuple[Conditioning, Measured]:
    """A prompt through the text encoders, by itself as the cache does it; the conditioning's one row."""
    found: list[Conditioning] = []
    taken = measured(generator, held, lambda memory: found.append(generator.encode_prompts([PROMPT])))
    return found[0], taken


def encode_image(generator: Generator, held: Sequence[nn.Module], size: VideoSize) -> tuple[Conditioning, Measured]:
    """The image that a clip goes on from, through whatever the family reads it with; its conditioning's one row."""
    found: list[Conditioning] = []
    image = torch.zeros(1, 3, size.height, size.width)
    taken = measured(generator, held, lambda memory: found.append(generator.encode_condition(image, size)))
    return found[0], taken


def encode_video(generator: Generator, held: Sequence[nn.Module], size: VideoSize) -> Measured:
    """A clip of a user's own through the VAE's encoder."""
    video = torch.zeros(()).expand(1, size.num_frames, 3, size.height, size.width)

    def work(memory: ShapeMemory) -> None:
        with torch.no_grad():
            generator.encode(video.to(META))

    return measured(generator, held, work)


def roll_out(
    policy: Policy, held: Sequence[nn.Module | Tensor], conditioning: Conditioning, sampling: Sampling, videos: int
) -> Measured:
    """So many videos sampled together, in `STEPS` steps."""
    side = rows(conditioning, 1)
    sampler = Sampler(sampling.size, STEPS, sampling.guidance_scale, Sides(side, side), videos)
    group = Group(PROMPT, 0, list(range(videos)))

    def work(memory: ShapeMemory) -> None:
        for _ in sampler.roll_out(policy, [group]):
            pass

    return measured(policy.generator, held, work)


def decode(
    generator: Generator, held: Sequence[nn.Module | Tensor], size: VideoSize, videos: int, frames: Sequence[int] | None
) -> Measured:
    """So many videos from their latents, without gradients."""
    latents = torch.empty(videos, *generator.latent_shape(size), device=META)

    def work(memory: ShapeMemory) -> None:
        with torch.no_grad():
            generator.decode(latents, **({} if frames is None else {"frames": frames}))

    return measured(generator, [*held, latents], work)


def judge(
    generator: Generator,
    held: Sequence[nn.Module | Tensor],
    reward: Reward,
    size: VideoSize,
    *,
    videos: int,
    together: int,
    fps: float,
) -> Measured:
    """The videos of a rollout, decoded and held, through a reward a few at a time."""
    read = reward.frames_read(size.num_frames)
    frames = size.num_frames if read is None else len(read)

    def work(memory: ShapeMemory) -> None:
        memory.label = REWARD
        pixels = torch.empty(videos, frames, 3, size.height, size.width, device=META)
        with torch.no_grad(), on_shapes(reward):
            reward.score(pixels[:together], [PROMPT] * min(videos, together), fps=fps)

    return measured(generator, held, work)


def learn(
    policy: Policy, held: Sequence[nn.Module | Tensor], conditioning: Conditioning, size: VideoSize, step: StepSettings
) -> Measured:
    """A micro-batch of a step; one of several begins with the gradients of those before it."""
    shape = policy.generator.latent_shape(size)
    count = planned_size(step)
    batch, real = _batch(step, shape, conditioning, count), _videos(shape, conditioning, count)
    inner = objective_step(step, torch.Size(shape).numel())

    def work(memory: ShapeMemory) -> None:
        if count < batch_size(step):
            lay_gradients(policy)
        if isinstance(step, OnlineSettings) and step.distance.anchor:
            anchored = real if step.anchors.real else None
            OnlineStep(inner, step).accumulate_gradients(policy, OnlineBatch(batch, anchored, {}))
            return
        inner.accumulate_gradients(policy, AnchoredBatch(batch, real) if step.anchors.real else batch)

    return measured(policy.generator, held, work)


def planned_size(step: StepSettings) -> int:
    """Pairs or videos of a step that stand for all: a micro-batch, of KTO two, since one alone saves a forward."""
    return min(step.micro_batch_size * (2 if step.objective.name == "kto" else 1), batch_size(step))


def lay_gradients(policy: Policy) -> None:
    """Give every parameter a gradient, as micro-batches before would have."""
    for parameter in policy.parameters.values():
        parameter.grad = torch.zeros_like(parameter)


def batch_size(step: StepSettings) -> int:
    """Pairs or videos of one step of the optimiser."""
    if isinstance(step, OnlineSettings):
        top, candidates = step.selection.top, step.rollout.candidates
        return step.prompts * {"kto": 2 * top, "rwr": candidates}.get(step.objective.name, top)
    found: int = getattr(step, "batch_size", step.micro_batch_size)
    return found


def _batch(
    step: StepSettings, shape: tuple[int, ...], conditioning: Conditioning, count: int
) -> PairBatch | VideoBatch:
    if isinstance(step.objective, DPO):
        latents = torch.zeros(()).expand(count, 2, *shape)
        return PairBatch(latents, rows(conditioning, count), seed=0)
    return _videos(shape, conditioning, count)


def _videos(shape: tuple[int, ...], conditioning: Conditioning, count: int) -> VideoBatch:
    return VideoBatch(
        torch.zeros(()).expand(count, *shape), rows(conditioning, count), seed=0, values=torch.ones(count)
    )
