"""V-JEPA 2: how well masked parts of a clip can be predicted from the rest, in the space of representations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.base import Reward, RewardCard, Videos, check_input
from reelign.rewards.images import in_batches, look
from reelign.rewards.loading import device_and_dtype, fingerprint, load_pretrained, self_test, tolerance_of, version_of
from reelign.rewards.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

BLOCKS = ((8, 0.15), (2, 0.7))
"""Blocks that one mask is the union of, and the share of the frame that each covers: V-JEPA's two kinds of masks."""
ASPECT = (0.75, 1.5)
"""Height over width of a block, drawn evenly."""


def block_mask(side: int, count: int, share: float, generator: torch.Generator) -> Tensor:
    """Which patches of a frame are hidden: a union of blocks (V-JEPA, arXiv:2404.08471, section 3.2).

    Args:
        side: patches per side of a frame, at least 2.
        count: blocks.
        share: of the frame's area that each block covers.
        generator: for their places and aspects.
    Returns:
        (side, side) bool; at least one patch is hidden and one is not.
    """
    while True:
        hidden = torch.zeros(side, side, dtype=torch.bool)
        for _ in range(count):
            low, high = ASPECT
            aspect = low + (high - low) * float(torch.rand((), generator=generator))
            area = share * side * side
            height, width = (min(side, max(1, round(math.sqrt(each)))) for each in (area * aspect, area / aspect))
            top = int(torch.randint(side - height + 1, (), generator=generator))
            left = int(torch.randint(side - width + 1, (), generator=generator))
            hidden[top : top + height, left : left + width] = True
        if not hidden.all():
            return hidden


def tube_masks(side: int, depth: int, num_masks: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Context and target patches of each mask: blocks of a frame that are hidden through the whole clip.

    Args:
        side, depth: patches per side of a frame, and over time.
        num_masks: how many of each kind of `BLOCKS`.
        seed: the same masks for every video, so that candidates differ by what they show.
    Returns:
        Pairs of ascending patch numbers (context, target), in raster order of time, height and width.
    """
    generator = torch.Generator().manual_seed(seed)
    masks = []
    for _ in range(num_masks):
        for count, share in BLOCKS:
            hidden = block_mask(side, count, share, generator).flatten().repeat(depth)
            masks.append(((~hidden).nonzero()[:, 0], hidden.nonzero()[:, 0]))
    return masks


def preprocessing(crop_size: int) -> Preprocessing:
    """As its processor does: shortest side 256/224 of the crop, on whose grid positions are counted."""
    return Preprocessing(
        size=crop_size,
        shortest=int(crop_size * 256 / 224),
        filter="bilinear",
        resizer="torchvision",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def representations(encoder: Any, pixels: Tensor) -> Tensor:
    """What is to be predicted: normalised features (B, patches, D) of whole clips (B, T, 3, H, W)."""
    states = encoder.embeddings(pixels)
    for layer in encoder.layer:
        states = layer(states, None)[0]
    states = encoder.layernorm(states).float()
    return F.layer_norm(states, states.shape[-1:])


def prediction_error(
    model: Any, pixels: Tensor, masks: Sequence[tuple[Tensor, Tensor]], wanted: Tensor | None = None
) -> Tensor:
    """Mean absolute error of the predicted representations, averaged over masks, (B,); lower is better.

        |predictor(encoder(context), target places) - LN(encoder(clip))[target]|, mean over target and features

    V-JEPA 2 (arXiv:2506.09985), eq. 1: the encoder sees the context patches alone. The model's own `context_mask`
    does something else: it picks from an encoding of the whole clip, in which the context has seen the target. One
    encoder stands for both of the training's, as in the released weights. Nothing is detached: the gradient is that
    of the score.

    Args:
        model: a VJEPA2Model.
        pixels: (B, T, 3, H, W), H = W = its crop size.
        masks: as from `tube_masks`.
        wanted: `representations` by another encoder, such as the moving average in training; None is by its own.
    """
    encoder = model.encoder
    if wanted is None:
        wanted = representations(encoder, pixels)
    patches = encoder.embeddings(pixels)
    batch = len(pixels)
    errors = []
    for context, target in masks:
        context_ids, target_ids = (ids.to(pixels.device).expand(batch, -1) for ids in (context, target))
        seen = patches[:, context_ids[0]]
        for layer in encoder.layer:
            seen = layer(seen, context_ids)[0]
        # The predictor gathers the context's places from a tensor of all; the others are never read.
        everywhere = torch.zeros_like(patches).index_copy(1, context_ids[0], encoder.layernorm(seen))
        predicted = model.predictor(
            encoder_hidden_states=everywhere, context_mask=[context_ids], target_mask=[target_ids]
        ).last_hidden_state
        errors.append((predicted.float() - wanted[:, target_ids[0]]).abs().mean(dim=(1, 2)))
    return torch.stack(errors).mean(dim=0)


class VJEPA2Consistency(Reward):
    """- the error with which V-JEPA 2 predicts masked parts of a clip; 0 is best (VADER's V-JEPA reward).

    VADER used V-JEPA 1, whose weights are non-commercial; V-JEPA 2 stands in for it, so numbers differ. A still
    picture is easy to predict and scores high: put it beside a measure of movement.

    Args:
        model: hub id or folder of a VJEPA2Model; '' is the card's.
        frames: how many are looked at, evenly spread, an even number.
        num_masks: masks of each of two kinds (8 small blocks, 2 large ones); more are steadier and slower.
        seed: of the masks.
        batch_size: videos in one call of the model.
        device, dtype: as for ClipReward.
        expected_score: of the self-test's clip, from an earlier load; None is not compared.
    """

    card = RewardCard(
        what="How well masked parts of the clip follow from the rest, by V-JEPA 2; stands in for V-JEPA 1",
        dimensions=("consistency",),
        differentiable=True,
        frames_needed=16,
        weights="facebook/vjepa2-vitl-fpc64-256",
        licence="MIT",
        size="326 M parameters, 1.3 GB in fp32",
    )
    name = "vjepa2"
    dimensions = card.dimensions

    def __init__(
        self,
        *,
        model: str = "",
        frames: int = 16,
        num_masks: int = 1,
        seed: int = 0,
        batch_size: int = 4,
        device: str = "auto",
        dtype: str = "auto",
        expected_score: float | None = None,
    ) -> None:
        from transformers import VJEPA2Model

        self.device, precision = device_and_dtype(device, dtype)
        self.model: Any = load_pretrained(VJEPA2Model, model or self.card.weights, device=self.device, dtype=precision)
        config = self.model.config
        if frames < 1 or frames % config.tubelet_size or num_masks < 1:
            raise ReelignError(
                f"frames is {frames} and num_masks {num_masks}.",
                f"Give frames in multiples of {config.tubelet_size}, and at least one mask.",
            )
        self.frames = frames
        self.batch_size = batch_size
        self.preprocess = preprocessing(config.crop_size)
        side, depth = config.crop_size // config.patch_size, frames // config.tubelet_size
        self.masks = tube_masks(side, depth, num_masks, seed)
        self.version = version_of(self.name, fingerprint(self.model), self.preprocess, frames, num_masks, seed, BLOCKS)
        self.self_test_scores = self_test(self, expected=expected_score, tolerance=tolerance_of(precision))

    @property
    def frames_needed(self) -> int:
        return self.frames

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        check_input(self, videos, prompts, fps=fps)
        pixels = look(videos, self.frames, self.preprocess, self.device).to(self.model.dtype)
        clips = pixels.unflatten(0, (len(videos), self.frames))
        errors = in_batches(lambda part: prediction_error(self.model, part, self.masks), self.batch_size, clips)
        return {"consistency": -errors}
