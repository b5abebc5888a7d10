"""True judges of the small world: visual quality, motion quality and text alignment, read from pixels alone.

They know how a clean video looks, and nothing of how the video before them was made. Every measure is a smooth step,
tolerant of the small errors of an autoencoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from reelign.errors import ReelignError
from reelign.spriteworld.prompts import SHAPES, parse
from reelign.spriteworld.world import PALETTE, SIZE, masks

VERSION = "1"
DIMENSIONS = ("VQ", "MQ", "TA")
CHUNK = 64
GRID, REACH = 20, 2.1
"""A shape is compared on GRID x GRID points, out to REACH radii of gyration from its centroid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tracks:
    """What is measured in each frame of a batch of videos."""

    colour: Tensor
    """(B, F, 3) of the shape, in [0, 1]."""
    ground: Tensor
    """(B, F, 3) of the background."""
    centroid: Tensor
    """(B, F, 2) px."""
    gyration: Tensor
    """(B, F) root mean squared distance of the shape's pixels from the centroid, px."""
    likeness: Tensor
    """(B, F, 4) overlap with each ideal shape in [0, 1]; 1 is the ideal shape."""
    contrast: Tensor
    """(B, F) largest difference of the shape's colour from the background's, in [0, 1]."""
    sharpness: Tensor
    """(B, F) energy of the outline as a share of the likeliest ideal shape's."""
    stain: Tensor
    """(B, F) root mean squared error of the background away from the shape."""


def scores(videos: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]:
    """Score videos (B, F, 3, 32, 32) in [0, 1] for their prompts.

    Returns:
        {"VQ", "MQ", "TA"} of (B,) in [0, 1], 1 is best.
    Raises:
        ReelignError: videos of another size, another number of prompts, or a prompt that is no caption of this world.
    """
    if len(prompts) != len(videos):
        raise ReelignError(
            f"{len(videos)} videos came with {len(prompts)} prompts.", "Give each video the prompt it was made for."
        )
    told = parse(prompts).to(videos.device)
    chunks = [scores_of(tracks, told[start : start + CHUNK]) for start, tracks in tracked(videos)]
    return {name: torch.cat([videos.new_empty(0)] + [chunk[name] for chunk in chunks]) for name in DIMENSIONS}


def scores_of(tracks: Tracks, told: Tensor) -> dict[str, Tensor]:
    """Scores (B,) of each dimension from what was measured, with its graph; `told` as from `prompts.parse`."""
    seen = presence(tracks)
    chances = [chance.gather(1, told[:, i : i + 1])[:, 0] for i, chance in enumerate(posteriors(tracks))]
    # The floor keeps two right words better than one, and a geometric mean asks for all three.
    alignment = (0.05 + 0.95 * torch.stack(chances)).log().mean(dim=0).exp()
    return {"VQ": seen * visual_quality(tracks), "MQ": seen * motion_quality(tracks), "TA": seen * alignment}


def attributes(videos: Tensor) -> Tensor:
    """The likeliest colour, shape and motion of each video, (B, 3) int64 indices as in `prompts`."""
    chunks = [posteriors(tracks) for _, tracks in tracked(videos)]
    found = [torch.stack([chance.argmax(dim=1) for chance in chunk], dim=1) for chunk in chunks]
    return torch.cat([torch.empty(0, 3, dtype=torch.int64, device=videos.device), *found])


def tracked(videos: Tensor) -> Iterator[tuple[int, Tracks]]:
    """Tracks of CHUNK videos at a time (a batch that fits the processor's cache is the fastest), with their start."""
    check_videos(videos)
    for start in range(0, len(videos), CHUNK):
        with torch.no_grad():
            tracks = track(videos[start : start + CHUNK].float())
        yield start, tracks  # outside the block, which would else switch gradients off for the caller


def check_videos(videos: Tensor) -> None:
    """Refuse videos of another shape than (B, 4 or more, 3, 32, 32)."""
    if videos.ndim != 5 or videos.shape[1] < 4 or videos.shape[2:] != (3, SIZE, SIZE):
        raise ReelignError(
            f"the small world judges videos (batch, 4 or more frames, 3, {SIZE}, {SIZE}), got {tuple(videos.shape)}.",
            f"Resize the videos to {SIZE}x{SIZE}, or choose another judge.",
        )


def diversity(videos: Tensor) -> float:
    """Mean distance (root mean square over pixels) between two videos of a batch (B >= 2, F, C, H, W); no labels."""
    flat = videos.flatten(1)
    return float(torch.pdist(flat).mean() / flat.shape[1] ** 0.5)


def step(value: Tensor, *, bad: float, good: float) -> Tensor:
    """A smooth step from 0 at `bad` to 1 at `good`, whichever is larger."""
    x = ((value - bad) / (good - bad)).clamp(0, 1)
    return x * x * (3 - 2 * x)


def root(value: Tensor) -> Tensor:
    """Square root, 0 of what is not positive; where a plain one has no finite derivative this one has none at all."""
    positive = value > 1e-12
    return torch.where(positive, value.where(positive, 1.0).sqrt(), 0.0)


def track(videos: Tensor) -> Tracks:
    """Find the shape in each frame: it is what differs from the median colour of the frame's border."""
    border = torch.cat([videos[..., 0, :], videos[..., -1, :], videos[..., 1:-1, 0], videos[..., 1:-1, -1]], dim=-1)
    ground = border.median(dim=-1).values
    offset = videos - ground[..., None, None]
    distance = offset.abs().amax(dim=2)
    # A high power reads the colour in the middle of the shape, where blur has not mixed it with the background.
    weight = distance.square().square()
    difference = (offset * weight[:, :, None]).sum(dim=(-2, -1)) / (weight.sum(dim=(-2, -1)) + 1e-6)[..., None]
    power = difference.square().sum(dim=-1) + 1e-6
    alpha = torch.einsum("bfchw,bfc->bfhw", offset, difference) / power[..., None, None]
    found = ((alpha - 0.3) / 0.4).clamp(0, 1)
    centroid, gyration = moments(found)
    pixels = torch.arange(SIZE, device=videos.device) + 0.5
    x, y = pixels - centroid[..., :1], pixels - centroid[..., 1:]
    square = x.square()[..., None, :] + y.square()[..., :, None]
    away = (square > (2.0 * gyration + 2.5).square()[..., None, None]).float()
    stain = (offset.square().mean(dim=2) * away).sum(dim=(-2, -1)) / (away.sum(dim=(-2, -1)) + 1)
    likeness, kind = compare_shapes(found, centroid, gyration)
    _, energies = ideals()
    return Tracks(
        colour=ground + difference,
        ground=ground,
        centroid=centroid,
        gyration=gyration,
        likeness=likeness,
        contrast=difference.abs().amax(dim=-1),
        sharpness=edge_energy(alpha.clamp(0, 1) * (1 - away)) / (energies[kind] * gyration + 1e-3),
        stain=root(stain),
    )


def moments(found: Tensor) -> tuple[Tensor, Tensor]:
    """Centroids (..., 2) and radii of gyration (...) of masks (..., 32, 32), px; the middle and 0 of an empty mask."""
    pixels = torch.arange(SIZE, device=found.device) + 0.5 - SIZE / 2
    columns, rows = found.sum(dim=-2), found.sum(dim=-1)
    area = rows.sum(dim=-1) + 1e-6
    mean = torch.stack([columns @ pixels, rows @ pixels], dim=-1) / area[..., None]
    spread = (columns @ pixels.square() + rows @ pixels.square()) / area - mean.square().sum(dim=-1)
    return mean + SIZE / 2, root(spread)


def edge_energy(alpha: Tensor) -> Tensor:
    """Sum of squared differences between neighbouring pixels, (..., 32, 32) -> (...); blur lowers it."""
    return alpha.diff(dim=-1).square().sum(dim=(-2, -1)) + alpha.diff(dim=-2).square().sum(dim=(-2, -1))


def normalise(found: Tensor, centroid: Tensor, gyration: Tensor) -> Tensor:
    """Masks (B, F, 32, 32) sampled around their centroids in units of their gyration: (B, F, GRID * GRID)."""
    ticks = torch.linspace(-REACH, REACH, GRID, device=found.device)
    points = torch.stack(torch.meshgrid(ticks, ticks, indexing="xy"), dim=-1)
    where = centroid[..., None, None, :] + gyration[..., None, None, None] * points
    grid = (2 * where / SIZE - 1).flatten(0, 1)
    sampled = F.grid_sample(found.flatten(0, 1)[:, None], grid, align_corners=False)
    return sampled.reshape(*found.shape[:2], GRID * GRID)


def compare_shapes(found: Tensor, centroid: Tensor, gyration: Tensor) -> tuple[Tensor, Tensor]:
    """Soft intersection over union (B, F, 4) with each ideal shape, and the likeliest shape (B, F)."""
    sampled = normalise(found, centroid, gyration)
    templates, _ = ideals()
    both = sampled @ templates.T
    either = sampled.square().sum(dim=-1, keepdim=True) + templates.square().sum(dim=-1) - both
    likeness = both / (either + 1e-6)
    return likeness, likeness.argmax(dim=-1)


@cache
def ideals() -> tuple[Tensor, Tensor]:
    """The ideal shapes (4, GRID * GRID) on the normalised grid, and their outline energy (4,) per px of gyration.

    Means over many places and sizes, because the same shape meets the pixel grid in many ways.
    """
    count = 256
    ways = torch.rand(3, count, generator=torch.Generator().manual_seed(0))
    centre = (SIZE / 2 + 4 * ways[:2].T - 2).expand(len(SHAPES), -1, -1)
    radius = (4.5 + 3.5 * ways[2]).expand(len(SHAPES), -1)
    alpha = masks(torch.arange(len(SHAPES)), centre, radius)
    found = ((alpha - 0.3) / 0.4).clamp(0, 1)
    centroid, gyration = moments(found)
    templates = normalise(found, centroid, gyration).mean(dim=1)
    return templates, (edge_energy(alpha) / gyration).mean(dim=1)


def presence(tracks: Tracks) -> Tensor:
    """Whether there is a shape at all, (B,) in [0, 1]; noise and empty frames have none."""
    shaped = step(tracks.likeness.amax(dim=-1), bad=0.55, good=0.75)
    return (shaped * step(tracks.contrast, bad=0.05, good=0.2)).mean(dim=1)


def visual_quality(tracks: Tracks) -> Tensor:
    """Sharp outline, saturated colour that stands out, clean background: the product of the three, (B,)."""
    saturation = tracks.colour.amax(dim=-1) - tracks.colour.amin(dim=-1)
    saturation = saturation / tracks.colour.amax(dim=-1).clamp(min=0.05)
    sharp = step(tracks.sharpness, bad=0.2, good=0.52)
    vivid = step(saturation, bad=0.15, good=0.78)
    clean = step(tracks.stain, bad=0.13, good=0.03)
    return (sharp * vivid * clean).mean(dim=1)


def motion_quality(tracks: Tracks) -> Tensor:
    """Steady place, size and brightness of something that moves at all: the product of the four, (B,).

    What is as good as perfect allows for the shipped autoencoder, which moves a clean shape by half a pixel.
    """
    shake = unsteadiness(poses(tracks))
    luma = torch.stack([tracks.colour.mean(dim=-1), tracks.ground.mean(dim=-1)], dim=-1)
    flicker = unsteadiness(luma).amax(dim=-1)
    place = step(shake[:, :2].norm(dim=-1), bad=1.9, good=0.45)
    size = step(shake[:, 2], bad=0.18, good=0.03)
    # Without this a frozen clip would be the steadiest of all.
    moves = step(motion_strength(tracks).abs().amax(dim=-1), bad=0.0, good=0.5)
    return place * size * step(flicker, bad=0.13, good=0.015) * moves


def poses(tracks: Tracks) -> Tensor:
    """Where the shape is and how large: (B, F, 3) of x and y in px and the size as a share of its mean."""
    size = tracks.gyration / tracks.gyration.mean(dim=1, keepdim=True).clamp(min=0.5)
    return torch.cat([tracks.centroid, size[..., None]], dim=-1)


def changes(path: Tensor) -> Tensor:
    """How far each coordinate of a path (B, F, D) moves from first to last frame on the fitted line, (B, D)."""
    time = torch.linspace(-0.5, 0.5, path.shape[1], device=path.device)
    return torch.einsum("bfd,f->bd", path, time) / time.square().sum()


def unsteadiness(path: Tensor) -> Tensor:
    """How far a path (B, F, D) strays from constant speed, (B, D) in the path's unit.

    The root of the summed squares of two estimates of the same thing: the third difference (jerk, scaled so that white
    noise of deviation s measures s) sees trembling, and the distance to a straight line sees slow wandering.
    """
    time = torch.linspace(-0.5, 0.5, path.shape[1], device=path.device)
    line = path.mean(dim=1, keepdim=True) + changes(path)[:, None] * time[:, None]
    stray = (path - line).square().mean(dim=1)
    jerk = path.diff(n=3, dim=1).square().mean(dim=1) / 20
    return root(stray + jerk)


def posteriors(tracks: Tracks) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities of each colour (B, 6), shape (B, 4) and motion (B, 6); motions may sum to less than 1."""
    hue = opponent(tracks.colour)
    palette = F.normalize(opponent(PALETTE.to(hue.device)), dim=-1)
    strength = hue.norm(dim=-1, keepdim=True)
    colour = (16 * F.normalize(hue, dim=-1) @ palette.T * (strength / 0.1).clamp(max=1)).softmax(dim=-1).mean(dim=1)
    shape = (40 * tracks.likeness).softmax(dim=-1).mean(dim=1)
    return colour, shape, motion_posterior(tracks)


def opponent(colour: Tensor) -> Tensor:
    """The hue of colours (..., 3) as a vector (..., 2); its length is the chroma."""
    red, green, blue = colour.unbind(dim=-1)
    return torch.stack([red - 0.5 * (green + blue), 0.75**0.5 * (green - blue)], dim=-1)


def motion_posterior(tracks: Tracks) -> Tensor:
    """Probabilities (B, 6) of the motions, from the path's fitted travel and growth; the rest is "stays still"."""
    right, down, bigger = motion_strength(tracks).unbind(dim=-1)
    evidence = torch.stack([-right, right, -down, down, bigger, -bigger, torch.full_like(right, 0.5)], dim=-1)
    return (12 * evidence).softmax(dim=-1)[:, :6]


def motion_strength(tracks: Tracks) -> Tensor:
    """How much the shape goes right and down and grows, (B, 3) in [-1, 1]; clean motions reach 1 or -1."""
    change = changes(poses(tracks))
    return (change / change.new_tensor([8.0, 8.0, 0.4])).clamp(-1, 1)
