"""A procedural world of one moving shape on a plain background, and the imperfect mix a base model learns from.

Lengths are pixels of a 32x32 frame, x to the right and y down, the middle of the frame at (16, 16). A clip is 17
frames; its time runs from -1/2 at the first to 1/2 at the last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from reelign.spriteworld.prompts import VOCABULARIES, captions

SIZE = 32
NUM_FRAMES = 17
FPS = 8.0

# Hues 60° apart, so that a colour stays itself when it is somewhat off.
PALETTE = torch.tensor(
    [
        [0.90, 0.10, 0.10],
        [0.95, 0.90, 0.10],
        [0.10, 0.80, 0.15],
        [0.10, 0.85, 0.90],
        [0.15, 0.20, 0.95],
        [0.85, 0.15, 0.85],
    ]
)
DIRECTIONS = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
GROWTH = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0, -1.0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """What a batch of videos shows; every field has B rows."""

    attributes: Tensor
    """(B, 3) int64 indices of colour, shape and motion."""
    centre: Tensor
    """(B, 2) where the shape is at mid-clip, px."""
    radius: Tensor
    """(B,) half the shape's extent at mid-clip, px."""
    travel: Tensor
    """(B,) length of the path of a shape that moves, px."""
    growth: Tensor
    """(B,) change of the radius over the clip of a shape that grows or shrinks, as a share of `radius`."""
    background: Tensor
    """(B,) grey level."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Flaws:
    """What is wrong with each video of a batch; strengths are (B,) in [0, 1] and 0 is flawless."""

    blur: Tensor
    fade: Tensor
    """Washed-out colours."""
    blotches: Tensor
    """Coloured stains on the background."""
    jitter: Tensor
    wobble: Tensor
    """The size trembles."""
    flicker: Tensor
    period: Tensor
    """(B,) frames from one shake of the motion flaws to the next."""
    phase: Tensor
    """(B, 2) radians; jitter shakes x by the first and y by the second."""
    stains: Tensor
    """(B, 3, 5, 5) in [-1, 1], stretched over the frame."""
    told: Tensor
    """(B, 3) int64 attributes that the caption tells; a caption flaw has one of them wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mix:
    """The share of flawed videos in the training mix; the three kinds strike independently of each other."""

    vq: float = 0.65
    """Share with one visual flaw."""
    mq: float = 0.65
    """Share with one motion flaw."""
    caption: float = 0.15
    """Share with one wrong word in the caption."""
    weakest: float = 0.5
    """Strengths are uniform in [weakest, 1]."""


MIX = Mix()


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Uniform numbers in [low, high) on the generator's device."""
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def sample_scenes(n: int, generator: torch.Generator, *, attributes: Tensor | None = None) -> Scene:
    """n random scenes in which the shape never leaves the frame.

    Args:
        attributes: (n, 3) colours, shapes and motions to show (see `prompts.parse`); all combinations equally often by
            default.
    """
    device = generator.device
    if attributes is None:
        columns = [torch.randint(len(words), (n,), generator=generator, device=device) for words in VOCABULARIES]
        attributes = torch.stack(columns, dim=1)
    attributes = attributes.to(device)
    grows = GROWTH.to(device)[attributes[:, 2]] != 0
    radius = torch.where(grows, uniform((n,), 5.8, 6.6, generator), uniform((n,), 5.5, 7.5, generator))
    travel = uniform((n,), 10.0, 13.0, generator)
    growth = uniform((n,), 0.5, 0.65, generator)
    along_path = DIRECTIONS.to(device)[attributes[:, 2]].abs() * travel[:, None] / 2
    reach = radius * torch.where(grows, 1 + growth / 2, torch.ones_like(growth))
    # Four pixels of freedom across the path are variety enough; a tiny model has to learn every place a shape can be.
    slack = (SIZE / 2 - 1 - reach[:, None] - along_path).clamp(min=0, max=4)
    centre = SIZE / 2 + slack * uniform((n, 2), -1, 1, generator)
    dark, light = uniform((n,), 0.05, 0.25, generator), uniform((n,), 0.75, 0.95, generator)
    background = torch.where(uniform((n,), 0, 1, generator) < 0.5, dark, light)
    return Scene(
        attributes=attributes, centre=centre, radius=radius, travel=travel, growth=growth, background=background
    )


def no_flaws(scene: Scene) -> Flaws:
    """Flawless videos with true captions: the start for `dataclasses.replace(no_flaws(scene), blur=...)`."""
    zero = torch.zeros_like(scene.radius)
    return Flaws(
        blur=zero,
        fade=zero,
        blotches=zero,
        jitter=zero,
        wobble=zero,
        flicker=zero,
        period=zero + 4,
        phase=zero[:, None].repeat(1, 2),
        stains=torch.zeros(len(zero), 3, 5, 5, device=zero.device),
        told=scene.attributes,
    )


def sample_flaws(scene: Scene, generator: torch.Generator, mix: Mix = MIX) -> Flaws:
    """Random flaws: at most one visual, one motion and one caption flaw in each video (see `Mix`)."""
    n = len(scene.radius)

    def strengths(share: float) -> tuple[Tensor, ...]:
        strength = uniform((n,), mix.weakest, 1, generator) * (uniform((n,), 0, 1, generator) < share)
        kind = torch.randint(3, (n,), generator=generator, device=generator.device)
        return (strength[:, None] * F.one_hot(kind, 3)).unbind(dim=1)

    blur, fade, blotches = strengths(mix.vq)
    jitter, wobble, flicker = strengths(mix.mq)
    return Flaws(
        blur=blur,
        fade=fade,
        blotches=blotches,
        jitter=jitter,
        wobble=wobble,
        flicker=flicker,
        # Shakes of 3 to 5 frames are seen as trembling, and are few enough numbers for a tiny model to imitate.
        period=uniform((n,), 3, 5, generator),
        phase=uniform((n, 2), 0, 2 * math.pi, generator),
        stains=uniform((n, 3, 5, 5), -1, 1, generator),
        told=swap_word(scene.attributes, uniform((n,), 0, 1, generator) < mix.caption, generator),
    )


def swap_word(attributes: Tensor, swapped: Tensor, generator: torch.Generator) -> Tensor:
    """(B, 3) attributes with one word, any of the three, changed for another where `swapped` (B,) is true."""
    counts = torch.tensor([len(words) for words in VOCABULARIES], device=attributes.device)
    column = torch.randint(3, (len(attributes),), generator=generator, device=attributes.device)
    step = 1 + (uniform((len(attributes),), 0, 1, generator) * (counts[column] - 1)).long()
    change = F.one_hot(column, 3) * step[:, None] * swapped[:, None]
    return (attributes + change) % counts


def sample_mix(
    n: int, generator: torch.Generator, *, mix: Mix = MIX, attributes: Tensor | None = None
) -> tuple[Tensor, list[str], Scene, Flaws]:
    """n videos of the deliberately imperfect training mix, with the captions that go with them.

    Returns:
        videos (n, 17, 3, 32, 32) in [0, 1]; their captions; what they show; what is wrong with them.
    """
    scene = sample_scenes(n, generator, attributes=attributes)
    flaws = sample_flaws(scene, generator, mix)
    return render(scene, flaws=flaws), captions(flaws.told), scene, flaws


def signed_distance(shape: int, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Distance in px from the points (x, y) to the outline of one shape around (0, 0); negative inside.

    Near enough to the Euclidean distance for anti-aliasing; `radius` is half the extent.
    """
    if shape == 0:  # square
        return torch.maximum(x.abs(), y.abs()) - 0.88 * radius
    if shape == 1:  # upright triangle; the sides run from (0, -radius) to (±radius, 0.8 * radius)
        side = (1.8 * x.abs() - (y + radius)) / math.hypot(1.8, 1.0)
        return torch.maximum(side, y - 0.8 * radius)
    if shape == 2:  # ring
        return (torch.hypot(x, y) - 0.75 * radius).abs() - 0.25 * radius
    wide, high = x.abs(), y.abs()  # cross
    return torch.maximum(torch.maximum(wide, high) - radius, torch.minimum(wide, high) - 0.32 * radius)


def masks(shape: Tensor, centre: Tensor, radius: Tensor) -> Tensor:
    """Anti-aliased coverage (B, F, 32, 32) in [0, 1] of shapes (B,) with centres (B, F, 2) and radii (B, F), px."""
    pixels = torch.arange(SIZE, device=radius.device) + 0.5
    x = (pixels - centre[..., :1])[..., None, :]
    y = (pixels - centre[..., 1:])[..., :, None]
    coverage = torch.empty(*radius.shape, SIZE, SIZE, device=radius.device)
    for index in range(len(VOCABULARIES[1])):
        rows = (shape == index).nonzero()[:, 0]
        distance = signed_distance(index, x[rows], y[rows], radius[rows][..., None, None])
        coverage[rows] = (0.5 - distance).clamp(0, 1)
    return coverage


def paths(scene: Scene, flaws: Flaws) -> tuple[Tensor, Tensor]:
    """Centres (B, F, 2) and radii (B, F) along the clip, px, motion flaws included."""
    device = scene.radius.device
    motion = scene.attributes[:, 2]
    frames = torch.arange(NUM_FRAMES, device=device)
    time = frames / (NUM_FRAMES - 1) - 0.5
    velocity = DIRECTIONS.to(device)[motion] * scene.travel[:, None]
    growth = GROWTH.to(device)[motion] * scene.growth
    shake = torch.sin(2 * math.pi * frames[None, :, None] / flaws.period[:, None, None] + flaws.phase[:, None, :])
    centre = scene.centre[:, None] + velocity[:, None] * time[None, :, None]
    centre = centre + 1.6 * flaws.jitter[:, None, None] * shake
    radius = scene.radius[:, None] * (1 + growth[:, None] * time)
    return centre, radius * (1 + 0.22 * flaws.wobble[:, None] * shake[..., 0])


def render(scene: Scene, *, flaws: Flaws | None = None) -> Tensor:
    """The videos (B, 17, 3, 32, 32) in [0, 1] of the scenes, clean unless flaws are given."""
    flaws = no_flaws(scene) if flaws is None else flaws
    device = scene.radius.device
    centre, radius = paths(scene, flaws)
    coverage = blurred(masks(scene.attributes[:, 1], centre, radius), 1.6 * flaws.blur)[:, :, None]
    colour = PALETTE.to(device)[scene.attributes[:, 0]]
    ground = scene.background[:, None].expand(-1, 3)
    # Fading pulls the colour towards its own grey and that grey some way towards the background.
    faded = 0.7 * colour.mean(dim=1, keepdim=True) + 0.3 * ground
    colour = torch.lerp(colour, faded, 0.75 * flaws.fade[:, None])
    stains = F.interpolate(flaws.stains * flaws.blotches[:, None, None, None], size=(SIZE, SIZE), mode="bicubic")
    behind = (ground[..., None, None] + 0.17 * stains)[:, None]
    videos = torch.lerp(behind, colour[:, None, :, None, None], coverage)
    frames = torch.arange(NUM_FRAMES, device=device)
    shake = torch.sin(2 * math.pi * frames / flaws.period[:, None] + flaws.phase[:, 1:])
    dimming = 1 - 0.4 * flaws.flicker[:, None] * (0.5 + 0.5 * shake)
    return (videos * dimming[..., None, None, None]).clamp(0, 1)


def blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Images (B, F, H, W) under a Gaussian blur of each video's own sigma (B,) px; 0 leaves a video as it is."""
    rows = (sigma > 0).nonzero()[:, 0]
    if not len(rows):
        return images
    offsets = torch.arange(-5, 6, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma[rows, None]) ** 2)
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    some = F.pad(images[rows], (5, 5, 5, 5)).transpose(0, 1)
    groups = len(rows)
    some = F.conv2d(some, kernel[:, None, None, :], groups=groups)
    some = F.conv2d(some, kernel[:, None, :, None], groups=groups)
    return images.index_copy(0, rows, some.transpose(0, 1))
