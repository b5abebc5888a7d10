"""What a look measures beside rewards: how much videos differ, and how far the policy has gone from the base."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.generators.base import Conditioning
from reelign.training.errors import Draw, base_distance
from reelign.training.policy import Policy

ACROSS_PROMPTS, IN_PROMPT = "diversity_across_prompts", "diversity_in_prompt"
REDUCED = (8, 32, 32)
"""Frames, height and width that videos are brought down to before they are compared."""


def reduced(videos: Tensor) -> Tensor:
    """(B, F, 3, H, W) to (B, 3, <=8, <=32, <=32) by means over blocks: enough to tell scenes and movements apart."""
    frames, height, width = (min(most, size) for most, size in zip(REDUCED, _sizes(videos), strict=True))
    return F.adaptive_avg_pool3d(videos.transpose(1, 2).float(), (frames, height, width))


def _sizes(videos: Tensor) -> tuple[int, int, int]:
    return videos.shape[1], videos.shape[3], videos.shape[4]


def diversity(videos: Tensor, clusters: Tensor) -> dict[str, Tensor]:
    """How far each video is from the others of its prompt, and from those of other prompts.

    Args:
        videos: (B, ...) of one shape; NaN where one could not be made.
        clusters: (B,) place of each video's prompt.
    Returns:
        (B,) each: the mean root mean square difference over pixels, in [0, 1]; 0 is the same video again. NaN where
        there is nothing to compare with: `diversity_in_prompt` needs two seeds, and is left out with one.
    """
    flat = videos.flatten(1).double()
    distance = torch.stack([(each - flat).square().mean(dim=1).sqrt() for each in flat])
    same = clusters[:, None] == clusters
    others = same & ~torch.eye(len(flat), dtype=torch.bool)
    found = {ACROSS_PROMPTS: _mean_over(distance, ~same)}
    if bool(others.any()):
        found[IN_PROMPT] = _mean_over(distance, others)
    return found


def distances(
    policy: Policy, latents: Tensor, conditioning: Conditioning, numbers: Tensor, count: int, seed: int
) -> Tensor:
    """‖v - v_base‖² of each video at one noise level of its own; 0 is the base.

    On videos of the policy itself, so that the mean is what the divergence of policy from base is made of.

    Args:
        policy: with the weights in use that are looked at.
        latents: (B, C, F, H, W) that they sampled.
        numbers: (B,) the place of each among all videos of the look, `count`: it decides the level and the noise.
    Returns:
        (B,) fp32 on the CPU, the mean over elements.
    """
    draw = _draw(policy, latents, numbers.tolist(), count, seed)
    return base_distance(policy, latents, conditioning, draw).cpu()


def _draw(policy: Policy, latents: Tensor, numbers: list[int], count: int, seed: int) -> Draw:
    """The same at every look; the levels of all videos are spread evenly over those that the family trains on."""
    order = torch.randperm(count, generator=generator_from(seed, "watch", "levels"))
    quantiles = (order[numbers] + 0.5) / count
    noise = [
        torch.randn(latents.shape[1:], generator=generator_from(seed, "watch", "noise", number)) for number in numbers
    ]
    device = policy.generator.device
    return Draw(policy.generator.path.training_sigmas(quantiles).to(device), torch.stack(noise).to(device))


def _mean_over(distance: Tensor, wanted: Tensor) -> Tensor:
    return distance.masked_fill(~wanted, float("nan")).nanmean(dim=1).float()
