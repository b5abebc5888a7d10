"""DPO on parts of a pair: their masks on the latents, the batches that carry them, and the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.objectives import DPO, anchored_loss, beta_at, implicit_accuracy, segment_dpo_loss
from reelign.recipes.settings import AlignSettings
from reelign.recipes.steps.draws import draw_for, micro_batches, part, take
from reelign.records.segments import Segment, Segments
from reelign.training import PairBatch, Policy, SharedLatents, ShuffledStream, velocity_errors
from reelign.video import Probe


def segment_masks(segments: Segments, shape: Sequence[int], video: Probe, name: str) -> Tensor:
    """How much of every latent element lies in each segment, (segments, 1, F', H', W') in [0, 1].

    A video VAE keeps its first frame by itself and then puts a fixed number of frames into one latent, or as many
    latents as frames: frame i of F goes into latent ceil(i·(F' - 1)/(F - 1)) either way.

    Args:
        segments: of one pair.
        shape: (C, F', H', W') of the latents.
        video: what the seconds are counted in.
        name: of the pair, for messages.
    Raises:
        ReelignError: a segment lies outside the video.
    """
    _, frames, height, width = shape
    times = torch.arange(video.num_frames) / video.fps
    own = (torch.arange(video.num_frames) * (frames - 1) / max(1, video.num_frames - 1)).ceil().long()
    held = torch.zeros(frames).index_add(0, own, torch.ones(video.num_frames))
    masks = []
    for number, each in enumerate(segments, start=1):
        inside = ((times >= each.start_s) & (times < each.end_s)).float()
        if not bool(inside.any()):
            raise ReelignError(
                f"Segment {number} of {name} begins at {each.start_s:g} s, and the video ends at "
                f"{video.num_frames / video.fps:g} s.",
                "Count its seconds from the beginning of the video.",
            )
        time = torch.zeros(frames).index_add(0, own, inside) / held
        left, top, right, bottom = each.box
        down, across = _covered(top, bottom, height), _covered(left, right, width)
        masks.append(time[:, None, None] * down[:, None] * across)
    return torch.stack(masks)[:, None]


def _covered(low: float, high: float, cells: int) -> Tensor:
    """The share of each of so many cells in [0, 1] that [low, high] covers."""
    edges = torch.linspace(0, 1, cells + 1)
    return (edges[1:].clamp(max=high) - edges[:-1].clamp(min=low)).clamp(min=0) * cells


@dataclass(frozen=True)
class SegmentedBatch(PairBatch):
    """Pairs with their segments: `masks` (segments, pairs, 1, F, H, W) and `labels` (pairs, segments).

    Pairs with fewer segments than others have some of label 0. The last mask is the whole video, which has no label.
    """

    masks: Tensor | None = None
    labels: Tensor | None = None


class SegmentedStream(ShuffledStream[SegmentedBatch]):
    """Shuffled epochs over pairs with segments.

    Args:
        segments: of each pair; an empty one is the whole video.
        videos: each pair's size and frame rate.
    """

    def __init__(
        self,
        latents: Tensor | SharedLatents,
        *data: Any,
        segments: Sequence[Segments],
        videos: Sequence[Probe],
        **options: Any,
    ):
        super().__init__(SegmentedBatch, latents, *data, **options)
        names = options.get("names") or [f"pair {row + 1}" for row in range(len(latents))]
        own = [each or (Segment(),) for each in segments]
        most = max(map(len, own))
        shape = latents.shape[2:]
        # Small beside the latents: no channels, and kept in a byte each.
        self.masks = torch.full((len(own), most + 1, 1, *shape[1:]), 255, dtype=torch.uint8)
        self.labels = torch.zeros(len(own), most, dtype=torch.int8)
        for row, each in enumerate(own):
            found = segment_masks(each, shape, videos[row], names[row])
            self.masks[row, : len(each)] = (found * 255).ceil().byte()
            self.labels[row, : len(each)] = torch.tensor([segment.label for segment in each])

    def _extras(self, rows: Tensor) -> dict[str, Any]:
        masks = self.masks[rows].float().div(255).transpose(0, 1)
        return {**super()._extras(rows), "masks": masks, "labels": self.labels[rows]}


class SegmentDPOStep:
    """Flow-DPO on segments, all from the same two forwards; the anchor on chosen videos sees them whole.

    Args:
        objective: its β under the mean reduction.
        settings: noise levels, micro-batches and the anchor.
    """

    def __init__(self, objective: DPO, settings: AlignSettings) -> None:
        if objective.reduction != "mean":
            raise ValueError("a step takes β under the mean reduction; convert it with mean_beta")
        self.objective = objective
        self.settings = settings

    def accumulate_gradients(self, policy: Policy, batch: SegmentedBatch) -> dict[str, float]:
        pairs = len(batch.latents)
        draw = draw_for(batch.latents[:, 0].shape, self.settings, policy.generator, batch.seed)
        beta = beta_at(self.objective.beta, draw.sigma, self.objective.schedule)
        weight = 1.0 if batch.values is None else batch.values.to(policy.generator.device)
        own: list[tuple[Tensor, Tensor, Tensor]] = []
        for rows in micro_batches(pairs, self.settings.micro_batch_size, policy.ranks):
            error, reference, labels = self._errors(policy, batch, draw[rows].repeat(2), rows)
            losses = self._losses(error, reference, labels, part(beta, rows), part(weight, rows))
            (losses.sum() / pairs).backward()
            own.append((losses.detach(), error[:, -1].detach(), reference[:, -1]))
        losses, error, reference = (policy.ranks.gather(torch.cat(each)) for each in zip(*own, strict=True))
        gap = (error - reference).mean(dim=0)
        return {
            "loss": float(losses.mean()),
            "implicit_accuracy": implicit_accuracy(error, reference),
            "chosen_error_gap": float(gap[0]),
            "rejected_error_gap": float(gap[1]),
            "chosen_error": float(error[:, 0].mean()),
            "forwards_per_pair": 4.0,
        }

    def _errors(self, policy: Policy, batch: SegmentedBatch, draw: Any, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Errors (pairs, segments + 1, 2) of policy and reference, the last over the whole video, and the labels."""
        assert batch.masks is not None
        assert batch.labels is not None
        device = policy.generator.device
        latents = batch.latents[rows].to(device).flatten(0, 1)
        masks = batch.masks[:, rows].to(device).repeat_interleave(2, dim=1)
        found = velocity_errors(policy, latents, take(batch.conditioning, rows, 2), draw, mask=masks)
        error, reference = (found[name].unflatten(0, (-1, 2)).transpose(1, 2) for name in ("policy", "reference"))
        return error, reference, batch.labels[rows].to(device).float()

    def _losses(
        self, error: Tensor, reference: Tensor, labels: Tensor, beta: float | Tensor, weight: float | Tensor
    ) -> Tensor:
        losses = weight * segment_dpo_loss(error[:, :-1], reference[:, :-1], labels, beta=beta)
        anchor = self.settings.anchors.chosen
        return anchored_loss(losses, chosen_error=error[:, -1, 0], chosen_weight=anchor) if anchor else losses
